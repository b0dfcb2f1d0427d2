package server

import (
	"net/http"
	"slices"
	"time"

	"lorikeet/adapters"
	"lorikeet/api"
)

// listAdapters answers GET /v1/adapters.
func (s *Server) listAdapters(w http.ResponseWriter, _ *http.Request) {
	list := api.AdapterList{Object: "list", Bases: []api.AdapterBase{}, Data: []api.Adapter{}}
	for _, b := range s.opts.Registry.Bases() {
		all, use := b.Adapters.List(), b.Adapters.Residency()
		list.Bases = append(list.Bases, api.AdapterBase{
			Name: b.Name, Adapters: len(all), MaxRank: use.Rank,
			Slots:     api.AdapterSlots{Total: use.Slots, Used: use.SlotsUsed, Pinned: use.SlotsPinned},
			HostBytes: api.AdapterHost{Used: use.HostBytes, Budget: use.HostBudget},
		})
		for i := range all {
			list.Data = append(list.Data, described(b, &all[i]))
		}
	}
	writeJSON(w, http.StatusOK, list)
}

// getAdapter answers GET /v1/adapters/{name}.
func (s *Server) getAdapter(w http.ResponseWriter, r *http.Request) {
	base, name, apiErr := s.find("", pathName(r), "")
	if apiErr != nil {
		writeError(w, r, apiErr)
		return
	}
	s.writeStatus(w, r, base, name)
}

func (s *Server) writeStatus(w http.ResponseWriter, r *http.Request, b *adapters.Base, name string) {
	st, ok := b.Adapters.Status(name)
	if !ok { // it went just now
		writeError(w, r, api.AdapterNotFound("", name))
		return
	}
	writeJSON(w, http.StatusOK, described(b, &st))
}

// described is a status as it is sent: what is not known is null.
func described(b *adapters.Base, st *adapters.Status) api.Adapter {
	a := api.Adapter{
		ID: modelName(b, st.Name), Object: "adapter", Name: st.Name, Base: b.Name, Origin: string(st.Origin), Path: st.Path,
		Pinned: st.Pinned, Tier: string(st.Tier), Slot: known(st.Slot), Leases: st.Leases,
		Version: known(st.Version), Bytes: known(st.Bytes), Incomplete: known(st.Incomplete), Error: known(st.Error),
	}
	if st.ID >= 0 {
		a.LoRAID = &st.ID
	}
	if st.Version != "" {
		a.Rank, a.Targets, a.Tensors = &st.Rank, st.Targets, &st.Tensors
	}
	if !st.LoadedAt.IsZero() {
		ms := float64(st.LastLoad.Microseconds()) / 1000
		at := st.LoadedAt.UTC().Truncate(time.Millisecond)
		a.LastLoadMS, a.LastLoadTier, a.LoadedAt = &ms, known(string(st.LastLoadTier)), &at
	}
	return a
}

// known is nil for a zero.
func known[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// loraAdapters answers GET /lora-adapters, as llama-server does: the adapters of a
// base, that of the model which the query names or the first, and the ids by which the
// lora field of requests calls them, as far as the key may use them.
func (s *Server) loraAdapters(w http.ResponseWriter, r *http.Request) {
	base := s.opts.Registry.Bases()[0]
	if name := r.URL.Query().Get("model"); name != "" {
		var adapter string
		var ok bool
		if base, adapter, ok = s.opts.Registry.Resolve(name); !ok || !keyOf(r).allows(base, adapter) {
			writeError(w, r, api.ModelNotFound(name))
			return
		}
	}
	list := []api.LoRAEntry{}
	for _, name := range base.Adapters.Names() {
		if st, ok := base.Adapters.Status(name); ok && keyOf(r).allows(base, name) { // not ok: it went just now
			list = append(list, api.LoRAEntry{ID: st.ID, Name: st.Name, Path: modelName(base, st.Name)})
		}
	}
	slices.SortFunc(list, func(a, b api.LoRAEntry) int { return a.ID - b.ID })
	writeJSON(w, http.StatusOK, list)
}
