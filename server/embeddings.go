package server

import (
	"math"
	"net/http"

	"lorikeet/api"
	"lorikeet/backend"
)

// inputsAtOnce bounds how many inputs of one request are in the engine together, so that
// it leaves room in the queue for others.
const inputsAtOnce = 32

// embeddings answers POST /v1/embeddings.
func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) {
	req, ok := accept(s, w, r, api.DecodeEmbedding)
	if !ok {
		return
	}
	t, apiErr := s.resolve(w, r, req.Model, req.LoRA)
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	defer t.release()
	requests, err := embeddingRequests(t, req)
	if err != nil {
		writeError(w, r, blamed(apiError(err, req.Model), "prompt", "input"))
		return
	}
	list := api.EmbeddingList{Object: "list", Model: req.Model, Data: make([]api.Embedding, len(requests))}
	for first := 0; first < len(requests); first += inputsAtOnce {
		part := requests[first:min(first+inputsAtOnce, len(requests))]
		g, err := t.generate(r.Context(), part)
		if err == nil {
			err = embed(g, req, list.Data[first:first+len(part)])
			g.finish() // before the lease is released
		}
		if err != nil {
			writeError(w, r, blamed(apiError(err, req.Model), "prompt", "input"))
			return
		}
	}
	for i, r := range requests {
		list.Data[i].Object, list.Data[i].Index = "embedding", i
		list.Usage.PromptTokens += len(r.Prompt)
	}
	list.Usage.TotalTokens = list.Usage.PromptTokens
	if names := t.adapters(); names != "" {
		w.Header().Set(adapterHeader, names)
	}
	t.release() // a client that reads slowly does not keep the slot
	writeJSON(w, http.StatusOK, &list)
}

func embeddingRequests(t *target, req *api.EmbeddingRequest) ([]*backend.Request, error) {
	e := t.base.Engine
	if size := e.Info().Embedding; req.Dimensions > size {
		return nil, api.Invalid("dimensions", "integer_above_max_value", "Invalid 'dimensions': %d is more than the %d that embeddings of this model have.", req.Dimensions, size)
	}
	var out []*backend.Request
	for _, in := range req.Inputs {
		tokens, err := promptTokens(e, in, req.AddSpecialTokens, "input")
		if err != nil {
			return nil, err
		}
		r := &backend.Request{Prompt: truncated(e, tokens, req.TruncateTo, 0), Logprobs: -1, Embed: true}
		t.place(r)
		out = append(out, r)
	}
	return out, nil
}

// embed waits for the embeddings of a generation.
func embed(g *generation, req *api.EmbeddingRequest, out []api.Embedding) error {
	for ev := range g.events {
		if ev.Err != nil {
			return ev.Err
		}
		if ev.Finish == "" {
			continue
		}
		values := ev.Embedding
		if req.Dimensions > 0 {
			values = values[:req.Dimensions]
		}
		if !normalize(values) {
			return &api.Error{Status: http.StatusInternalServerError, Type: api.TypeServer, Code: "embedding_undefined", Param: "input", Message: "An input has no embedding: the model gives it numbers without a length."}
		}
		out[ev.index].Vector = api.Vector{Values: values, Base64: req.Base64}
	}
	return nil
}

// normalize makes a vector's length 1; one without a finite length above 0 has none.
func normalize(v []float32) bool {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	length := math.Sqrt(sum)
	if !(length > 0) || math.IsInf(length, 1) {
		return false
	}
	for i, x := range v {
		v[i] = float32(float64(x) / length)
	}
	return true
}
