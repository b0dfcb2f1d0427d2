package prefix

import (
	"math/rand/v2"
	"slices"
	"testing"

	"lorikeet/backend"
)

func base(tokens ...backend.Token) Prompt { return Prompt{Tokens: tokens} }

// start takes a prompt in as an engine does and returns how much of it was there.
func start(tree *Tree, id int, p Prompt) int {
	n := tree.Match(p, len(p.Tokens)).Tokens
	tree.Start(id, p, n)
	for i := n; i < len(p.Tokens); i++ {
		tree.Append(id, p.version(i), p.Tokens[i])
	}
	return n
}

func TestMatch(t *testing.T) {
	tree := New(8)
	start(tree, 0, Prompt{[]backend.Token{1, 2, 3, 4, 5}, 3, "a"})
	start(tree, 1, Prompt{[]backend.Token{1, 2, 3, 4}, 0, "a"})
	tests := []struct {
		name   string
		prompt Prompt
		limit  int
		n      int
	}{
		{"nothing", base(2), 9, 0},
		{"empty", base(), 9, 0},
		{"a part of a stretch", base(1, 2, 9), 9, 2},
		{"over the border of versions", Prompt{[]backend.Token{1, 2, 3, 4, 5, 6}, 3, "a"}, 9, 5},
		{"the border is elsewhere", base(1, 2, 3, 4, 5), 9, 3},
		{"the border is earlier", Prompt{[]backend.Token{1, 2, 3}, 2, "a"}, 9, 2},
		{"another version", Prompt{[]backend.Token{1, 2, 3}, 0, "b"}, 9, 0},
		{"the same version", Prompt{[]backend.Token{1, 2, 3, 4, 9}, 0, "a"}, 9, 4},
		{"the limit", Prompt{[]backend.Token{1, 2, 3, 4}, 0, "a"}, 3, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n := tree.Match(tt.prompt, tt.limit).Tokens; n != tt.n {
				t.Errorf("got %d, want %d", n, tt.n)
			}
		})
	}
}

func TestSharedTokensCountOnce(t *testing.T) {
	tree := New(8)
	start(tree, 0, base(1, 2, 3, 4))
	if n := start(tree, 1, base(1, 2, 9)); n != 2 || tree.Used() != 5 {
		t.Errorf("%d shared, %d used", n, tree.Used())
	}
	tree.Append(0, "", 5) // its last token is its own: the same node grows
	tree.Append(1, "", 10)
	if tree.Used() != 7 || tree.Kept() != 0 {
		t.Errorf("%d used, %d kept", tree.Used(), tree.Kept())
	}
	tree.Keep(0)
	if tree.Kept() != 3 {
		t.Errorf("%d kept, not 3, 4, 5", tree.Kept())
	}
	tree.Drop(1)
	if tree.Used() != 5 || tree.Kept() != 5 {
		t.Errorf("%d used, %d kept", tree.Used(), tree.Kept())
	}
}

func TestKeepFreesWhatIsRedundant(t *testing.T) {
	tree := New(8)
	start(tree, 0, base(1, 2, 3))
	if freed := tree.Keep(0); freed != nil {
		t.Errorf("the first one: %v freed", freed)
	}
	start(tree, 1, base(1, 2, 3, 4))
	if freed := tree.Keep(1); !slices.Equal(freed, []int{0}) {
		t.Errorf("the second turn: %v freed, not the first turn's", freed)
	}
	start(tree, 2, base(1, 2))
	if freed := tree.Keep(2); !slices.Equal(freed, []int{2}) {
		t.Errorf("a prefix: %v freed", freed)
	}
	// Two that compute the same at once.
	for id := 3; id <= 4; id++ {
		tree.Start(id, base(7, 8), 0)
	}
	for id := 3; id <= 4; id++ {
		tree.Append(id, "", 7, 8)
	}
	if freed := tree.Keep(3); !slices.Equal(freed, []int{3}) {
		t.Errorf("one of two twins: %v freed", freed)
	}
	if freed := tree.Keep(4); freed != nil || tree.Used() != 6 {
		t.Errorf("the other: %v freed, %d used", freed, tree.Used())
	}
}

// A twin's continuation is found, too.
func TestTwins(t *testing.T) {
	tree := New(8)
	for id := range 2 {
		tree.Start(id, base(), 0)
		tree.Append(id, "", 1, 2)
	}
	tree.Append(0, "", 3)
	tree.Append(1, "", 4)
	for _, last := range []backend.Token{3, 4} {
		if m := tree.Match(base(1, 2, last, 5), 9); m.Tokens != 3 || m.Holder != int(last-3) {
			t.Errorf("…%d: %+v", last, m)
		}
	}
}

func TestEvictsWhatWasLongestOfNoUse(t *testing.T) {
	tree := New(8)
	for id := range 3 {
		start(tree, id, base(backend.Token(id), 5))
		tree.Keep(id)
	}
	start(tree, 3, base(0, 5)) // of use
	tree.Drop(3)
	var order []int
	for {
		id, ok := tree.Evict()
		if !ok {
			break
		}
		order = append(order, id)
	}
	if !slices.Equal(order, []int{1, 2, 0}) || tree.Used() != 0 {
		t.Errorf("order %v, %d used", order, tree.Used())
	}
}

// Against a plain model: every sequence is a list of (token, cell), a cell is counted
// once, and it is kept if no sequence in use has it.
func TestAgainstAPlainModel(t *testing.T) {
	type cell struct {
		token   backend.Token
		version string
		id      int
	}
	const ids = 6
	versions := []string{"", "a"}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		tree := New(ids)
		model := make([][]cell, ids)
		kept := make([]bool, ids)
		versionOf := make([]string, ids)
		cells := 0
		for step := range 120 {
			id := rng.IntN(ids)
			switch {
			case model[id] == nil:
				p := Prompt{Version: versions[rng.IntN(2)], From: rng.IntN(4)}
				for range 1 + rng.IntN(7) {
					p.Tokens = append(p.Tokens, backend.Token(rng.IntN(2)))
				}
				best := 0
				for _, m := range model {
					n := 0
					for n < len(m) && n < len(p.Tokens)-1 && m[n].token == p.Tokens[n] && m[n].version == p.version(n) {
						n++
					}
					best = max(best, n)
				}
				m := tree.Match(p, len(p.Tokens)-1)
				n, holder := m.Tokens, m.Holder
				if n != best {
					t.Fatalf("seed %d, step %d: %d tokens match, the model has %d", seed, step, n, best)
				}
				before := tree.Kept()
				tree.Start(id, p, n)
				if before-tree.Kept() != m.Kept {
					t.Fatalf("seed %d, step %d: %d kept tokens came into use, not %d", seed, step, before-tree.Kept(), m.Kept)
				}
				model[id] = append(make([]cell, 0, 8), model[holder][:n]...) // not nil: it is in use
				for i, c := range model[id] {
					if c.token != p.Tokens[i] || c.version != p.version(i) {
						t.Fatalf("seed %d, step %d: the holder has other tokens", seed, step)
					}
				}
				versionOf[id] = p.Version
				kept[id] = false
			case kept[id]:
				if rng.IntN(3) == 0 {
					tree.Drop(id)
					model[id] = nil
				}
			case rng.IntN(5) == 0:
				tree.Drop(id)
				model[id] = nil
			case rng.IntN(4) == 0:
				kept[id] = true
				for _, f := range tree.Keep(id) {
					if !kept[f] {
						t.Fatalf("seed %d, step %d: sequence %d, in use, is freed", seed, step, f)
					}
					model[f] = nil
				}
			default:
				c := cell{backend.Token(rng.IntN(2)), versionOf[id], cells}
				cells++
				tree.Append(id, c.version, c.token)
				model[id] = append(model[id], c)
			}
			used, live := map[int]bool{}, map[int]bool{}
			for i, m := range model {
				for _, c := range m {
					used[c.id] = true
					if !kept[i] {
						live[c.id] = true
					}
				}
			}
			if tree.Used() != len(used) || tree.Kept() != len(used)-len(live) {
				t.Fatalf("seed %d, step %d: %d used, %d kept; the model says %d and %d", seed, step, tree.Used(), tree.Kept(), len(used), len(used)-len(live))
			}
		}
	}
}
