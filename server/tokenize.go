package server

import (
	"net/http"
	"strings"

	"lorikeet/adapters"
	"lorikeet/api"
	"lorikeet/backend"
)

// tokenize answers POST /tokenize. It needs no slot: adapters share their base's
// vocabulary.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeTokenize)
	if !ok {
		return
	}
	base, apiErr := s.base(r, req.Model)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	tokens, err := s.tokens(r, base, req)
	if err != nil {
		writeError(w, r, chatError(err, req.Model, "messages"))
		return
	}
	out := api.Tokenization{Count: len(tokens), MaxModelLen: base.Engine.Info().Context, Tokens: tokens}
	if req.Strings {
		out.Strings = make([]string, len(tokens))
		for i, t := range tokens {
			out.Strings[i] = api.TokenText(base.Engine.Piece(t, true))
		}
	}
	writeJSON(w, http.StatusOK, &out)
}

func (s *Server) tokens(r *http.Request, base *adapters.Base, req *api.TokenizeRequest) ([]backend.Token, error) {
	if req.Chat == nil {
		tokens, err := base.Engine.Tokenize(req.Text, req.AddSpecialTokens)
		if tokens == nil {
			tokens = []backend.Token{} // an empty list, not null
		}
		return tokens, err
	}
	t, err := s.templates[base]()
	if err != nil {
		return nil, err
	}
	text, err := t.Render(r.Context(), conversation(req.Chat))
	if err != nil {
		return nil, err
	}
	return conversationTokens(base.Engine, text)
}

// detokenize answers POST /detokenize.
func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeDetokenize)
	if !ok {
		return
	}
	base, apiErr := s.base(r, req.Model)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	if limit := base.Engine.Info().Context; len(req.Tokens) > limit {
		writeError(w, r, api.Invalid("tokens", "array_above_max_length", "Invalid 'tokens': an array of %d, at most %d are allowed: the context of this model.", len(req.Tokens), limit))
		return
	}
	if err := inVocabulary(base.Engine.Info().Vocabulary, "tokens", req.Tokens); err != nil {
		writeError(w, r, apiError(err, req.Model))
		return
	}
	var text strings.Builder
	for _, t := range req.Tokens {
		text.Write(base.Engine.Piece(t, true))
	}
	writeJSON(w, http.StatusOK, &api.Detokenization{Prompt: text.String()})
}

// tokenizerInfo answers GET /tokenizer_info.
func (s *Server) tokenizerInfo(w http.ResponseWriter, r *http.Request) {
	base, apiErr := s.base(r, r.URL.Query().Get("model"))
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	info := base.Engine.Info()
	name := func(t backend.Token) *string {
		if t == backend.NoToken {
			return nil
		}
		s := string(base.Engine.Piece(t, true))
		return &s
	}
	out := api.TokenizerInfo{Model: base.Name, VocabularySize: info.Vocabulary, MaxLength: info.Context, BOS: name(info.BOS), EOS: name(info.EOS)}
	if template := templateSource(base); template != "" {
		out.ChatTemplate = &template
	}
	writeJSON(w, http.StatusOK, &out)
}

// base finds the base of a model's name; without a name, it is the first one that the
// key may use.
func (s *Server) base(r *http.Request, model string) (*adapters.Base, *api.Error) {
	key := keyOf(r)
	if model == "" {
		for _, b := range s.opts.Registry.Bases() {
			if key.allows(b, "") {
				return b, nil
			}
		}
		return nil, api.Invalid("model", "missing_required_parameter", "Missing required parameter: 'model'.")
	}
	base, adapter, ok := s.opts.Registry.Resolve(model)
	if !ok || !key.allows(base, adapter) {
		return nil, api.ModelNotFound(model)
	}
	return base, nil
}
