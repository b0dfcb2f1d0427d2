package server

import (
	"lorikeet/api"
	"lorikeet/backend"
)

// template is what all choices of a request have in common.
func template(req *api.CompletionRequest) backend.Request {
	return backend.Request{
		NoCache:        req.NoCache,
		MaxTokens:      req.MaxTokens,
		Sampling:       sampling(&req.Sampling),
		Stop:           req.Stop,
		StopTokens:     req.StopTokens,
		IncludeStop:    req.IncludeStop,
		Logprobs:       req.Logprobs,
		PromptLogprobs: req.Echo && req.Logprobs >= 0,
	}
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
func promptTokens(e backend.Engine, p api.Prompt, addSpecial bool) ([]backend.Token, error) {
	if p.Tokens == nil {
		tokens, err := e.Tokenize(p.Text, addSpecial)
		if err == nil && len(tokens) == 0 {
			return nil, api.Invalid("prompt", "empty_array", "Invalid 'prompt': it has no tokens.")
		}
		return tokens, err
	}
	return p.Tokens, inVocabulary(e.Info().Vocabulary, "prompt", p.Tokens)
}

// checkVocabulary checks the tokens of all fields but the prompt.
func checkVocabulary(e backend.Engine, req *api.CompletionRequest) error {
	vocabulary := e.Info().Vocabulary
	for _, b := range req.LogitBias {
		if int(b.Token) >= vocabulary {
			return api.Invalid("logit_bias", "invalid_token_id", "Invalid 'logit_bias': token id %d is outside the vocabulary of %d.", b.Token, vocabulary)
		}
	}
	if err := inVocabulary(vocabulary, "stop_token_ids", req.StopTokens); err != nil {
		return err
	}
	return inVocabulary(vocabulary, "allowed_token_ids", req.Allowed)
}

func inVocabulary(vocabulary int, param string, tokens []int32) error {
	for i, t := range tokens {
		if int(t) >= vocabulary {
			return api.Invalid(param, "invalid_token_id", "Invalid '%s': token id %d (element %d) is outside the vocabulary of %d.", param, t, i, vocabulary)
		}
	}
	return nil
}
