package server

import (
	"slices"
	"strings"

	"lorikeet/api"
	"lorikeet/backend"
)

// template is what all choices of a request have in common.
func template(e backend.Engine, req *api.CompletionRequest) (backend.Request, error) {
	words, err := badWords(e, req.BadWords)
	r := backend.Request{
		NoCache:        req.NoCache,
		MaxTokens:      req.MaxTokens,
		Sampling:       sampling(&req.Sampling),
		Stop:           req.Stop,
		StopTokens:     req.StopTokens,
		IncludeStop:    req.IncludeStop,
		Logprobs:       max(req.Logprobs, req.PromptLogprobs),
		PromptLogprobs: req.Echo && req.Logprobs >= 0 || req.PromptLogprobs >= 0,
		SpecialText:    req.SpecialText,
	}
	if req.TokenIDs || req.BestOf > req.N {
		r.Logprobs = max(r.Logprobs, 0) // tokens come with them
	}
	r.Sampling.BadWords = words
	return r, err
}

// badWords tokenizes words as they stand at the beginning of a text and within it, where
// most vocabularies have a token for a word with the blank before it.
func badWords(e backend.Engine, words []string) ([][]backend.Token, error) {
	var out [][]backend.Token
	for _, w := range words {
		for _, text := range []string{w, " " + strings.TrimLeft(w, " ")} {
			tokens, err := e.Tokenize(text, false)
			if err != nil {
				return nil, err
			}
			if len(tokens) > 0 && !slices.ContainsFunc(out, func(other []backend.Token) bool { return slices.Equal(other, tokens) }) {
				out = append(out, tokens)
			}
		}
	}
	return out, nil
}

func sampling(s *api.Sampling) backend.Sampling {
	out := backend.Sampling{
		Temperature:       s.Temperature,
		TopK:              s.TopK,
		TopP:              s.TopP,
		MinP:              s.MinP,
		TypicalP:          s.TypicalP,
		Seed:              s.Seed,
		RepetitionPenalty: s.RepetitionPenalty,
		PresencePenalty:   s.PresencePenalty,
		FrequencyPenalty:  s.FrequencyPenalty,
		MinTokens:         s.MinTokens,
		IgnoreEOS:         s.IgnoreEOS,
		Allowed:           s.Allowed,
		Grammar:           s.Grammar,
	}
	for _, b := range s.LogitBias {
		out.LogitBias = append(out.LogitBias, backend.TokenBias(b))
	}
	return out
}

// promptTokens checks what only the engine can tell.
// param is where the prompt is.
func promptTokens(e backend.Engine, p api.Prompt, addSpecial bool, param string) ([]backend.Token, error) {
	if p.Tokens == nil {
		tokens, err := e.Tokenize(p.Text, addSpecial)
		if err == nil && len(tokens) == 0 {
			return nil, api.Invalid(param, "empty_array", "Invalid '%s': it has no tokens.", param)
		}
		return tokens, err
	}
	return p.Tokens, inVocabulary(e.Info().Vocabulary, param, p.Tokens)
}

// marks is how many tokens tell a model to fill a gap.
const marks = 3

// infill puts the tokens around a prompt and what its answer is to lead to that tell the
// model to fill the gap.
func infill(e backend.Engine, prompt, suffix []backend.Token) ([]backend.Token, error) {
	mark := e.Info().Infill
	if min(mark.Prefix, mark.Suffix, mark.Middle) < 0 {
		return nil, api.Invalid("suffix", "unsupported_parameter", "Unsupported parameter: 'suffix' is not supported with this model: its vocabulary has no tokens for filling in the middle.")
	}
	begin := 0
	if prompt[0] == e.Info().BOS {
		begin = 1
	}
	return slices.Concat(prompt[:begin], []backend.Token{mark.Prefix}, prompt[begin:], []backend.Token{mark.Suffix}, suffix, []backend.Token{mark.Middle}), nil
}

// truncated is the end of a prompt: the last tokens, or as many as the context holds
// beside so many others if their number is -1.
func truncated(e backend.Engine, prompt []backend.Token, to, others int) []backend.Token {
	if to < 0 {
		to = max(1, e.Info().Context-others)
	}
	if to == 0 || len(prompt) <= to {
		return prompt
	}
	return prompt[len(prompt)-to:]
}

// checkVocabulary checks the tokens of all fields but the prompt.
func checkVocabulary(e backend.Engine, s *api.Sampling, stop []int32) error {
	vocabulary := e.Info().Vocabulary
	for _, b := range s.LogitBias {
		if int(b.Token) >= vocabulary {
			return api.Invalid("logit_bias", "invalid_token_id", "Invalid 'logit_bias': token id %d is outside the vocabulary of %d.", b.Token, vocabulary)
		}
	}
	if err := inVocabulary(vocabulary, "stop_token_ids", stop); err != nil {
		return err
	}
	return inVocabulary(vocabulary, "allowed_token_ids", s.Allowed)
}

func inVocabulary(vocabulary int, param string, tokens []int32) error {
	for i, t := range tokens {
		if int(t) >= vocabulary {
			return api.Invalid(param, "invalid_token_id", "Invalid '%s': token id %d (element %d) is outside the vocabulary of %d.", param, t, i, vocabulary)
		}
	}
	return nil
}
