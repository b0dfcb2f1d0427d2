package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"

	"lorikeet/adapters"
	"lorikeet/api"
)

// paint colours text by an ANSI code, for terminals only.
type paint func(code, text string) string

// The codes in use.
const (
	bold = "1"
	dim  = "2"
	red  = "31"
)

func paintFor(w io.Writer) paint {
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) && os.Getenv("NO_COLOR") == "" {
		return func(code, text string) string { return "\x1b[" + code + "m" + text + "\x1b[0m" }
	}
	return func(_, text string) string { return text }
}

// writeAdapters prints a table for each base. now is when the server answered.
func writeAdapters(w io.Writer, p paint, list *api.AdapterList, now time.Time) {
	for i, b := range list.Bases {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if b.Slots.Total == 0 {
			fmt.Fprintf(w, "%s takes no adapters\n", p(bold, b.Name))
			continue
		}
		fmt.Fprintf(w, "%s: %s; %d of %s in use, %d pinned; %s of %s of host memory; ranks up to %d\n", p(bold, b.Name), count(b.Adapters, "adapter"),
			b.Slots.Used, count(b.Slots.Total, "slot"), b.Slots.Pinned, size(b.HostBytes.Used), size(b.HostBytes.Budget), b.MaxRank)
		var rows []row
		for _, a := range list.Data {
			if a.Base == b.Name {
				rows = append(rows, adapterRow(&a, now))
			}
		}
		if len(rows) > 0 {
			fmt.Fprintln(w)
			writeRows(w, p, []string{"name", "pin", "version", "in", "leases", "rank", "targets", "size", "last load"}, rows)
		}
	}
}

// row is a line of a table, and what is written below it, outside of the columns.
type row struct {
	cells []string
	below []string
}

func adapterRow(a *api.Adapter, now time.Time) row {
	r := row{cells: []string{a.Name, "", "-", whereabouts(a), fmt.Sprint(a.Leases), "-", "-", "-", "-"}}
	if a.Pinned {
		r.cells[1] = "yes"
	}
	if a.Version != nil {
		r.cells[2] = adapters.Short(*a.Version)
		r.cells[5] = fmt.Sprint(*a.Rank)
		r.cells[6] = shortTargets(a.Targets)
	}
	if a.Bytes != nil {
		r.cells[7] = size(*a.Bytes)
	}
	if a.LoadedAt != nil {
		r.cells[8] = fmt.Sprintf("%s from %s, %s ago", took(*a.LastLoadMS), *a.LastLoadTier, age(now.Sub(*a.LoadedAt)))
	}
	if a.Incomplete != nil {
		r.below = append(r.below, "incomplete: "+*a.Incomplete)
	}
	if a.Error != nil {
		r.below = append(r.below, "error: "+*a.Error)
	}
	return r
}

func writeRows(w io.Writer, p paint, head []string, rows []row) {
	widths := make([]int, len(head))
	for _, cells := range append([]row{{cells: head}}, rows...) {
		for i, cell := range cells.cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(cells []string) string {
		var b strings.Builder
		for i, cell := range cells {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		return strings.TrimRight(b.String(), " ")
	}
	fmt.Fprintln(w, p(dim, line(head)))
	for _, r := range rows {
		fmt.Fprintln(w, line(r.cells))
		for _, text := range r.below {
			fmt.Fprintln(w, "  "+p(red, text))
		}
	}
}

// whereabouts is the fastest place that holds an adapter.
func whereabouts(a *api.Adapter) string {
	if a.Slot != nil {
		return fmt.Sprintf("slot %d", *a.Slot)
	}
	return a.Tier
}

// The weights of a layer in the order in which it uses them, as people call them.
var targetNames = []struct{ target, short string }{
	{"attn_qkv", "qkv"}, {"attn_q", "q"}, {"attn_k", "k"}, {"attn_v", "v"}, {"attn_output", "o"}, {"ffn_gate", "gate"}, {"ffn_up", "up"}, {"ffn_down", "down"},
}

// shortTargets names weights as people do: "q k v o gate up down".
func shortTargets(targets []string) string {
	var short []string
	rest := slices.Clone(targets)
	for _, n := range targetNames {
		if i := slices.Index(rest, n.target); i >= 0 {
			short = append(short, n.short)
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return strings.Join(append(short, rest...), " ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func size(bytes int64) string {
	x, unit := float64(bytes), "B"
	for _, next := range []string{"kB", "MB", "GB"} {
		if x < 1000 {
			break
		}
		x, unit = x/1000, next
	}
	if x < 10 && unit != "B" {
		return fmt.Sprintf("%.1f %s", x, unit)
	}
	return fmt.Sprintf("%.0f %s", x, unit)
}

func took(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	if ms < 10_000 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.0f s", ms/1000)
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", max(0, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
