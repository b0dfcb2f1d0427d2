package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Write prints the report for people: a line per figure, and under it what it was
// made of.
func (r *Report) Write(w io.Writer) {
	m := &r.Machine
	fmt.Fprintf(w, "Lorikeet %s on %d × %s, %d threads, base of %.0f MB", m.Version, m.Cores, m.CPU, m.Threads, float64(m.BaseBytes)/1e6)
	if r.Quick {
		fmt.Fprint(w, " (a quick run: a look, not a measurement)")
	}
	fmt.Fprint(w, "\n\n")
	rows := [][]string{{"scenario", "figure", "value", "spread", "target", "met"}}
	below := map[int]string{} // by row
	for _, res := range r.Results {
		name := res.Scenario
		for _, f := range res.Figures {
			rows = append(rows, append([]string{name}, f.cells()...))
			below[len(rows)-1] = f.parts()
			name = ""
		}
		if res.Error != "" {
			rows = append(rows, []string{name, "failed", "", "", "", ""})
			below[len(rows)-1] = res.Error
		}
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range rows {
		var line strings.Builder
		for j, cell := range row {
			pad := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell))
			if j == 2 { // numbers stand to the right
				cell, pad = pad+cell, ""
			}
			line.WriteString(cell + pad + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
		if below[i] != "" {
			fmt.Fprintf(w, "%*s%s\n", widths[0]+4, "", below[i])
		}
	}
}

func (f *Figure) cells() []string {
	cells := []string{f.Name, number(f.Value, f.Unit), "", "", ""}
	if f.Low != f.High {
		cells[2] = number(f.Low, "") + " … " + number(f.High, "")
	}
	if f.Target != 0 {
		sign, met := "≤ ", "NO"
		if f.AtLeast {
			sign = "≥ "
		}
		if f.Met() {
			met = "yes"
		}
		cells[3], cells[4] = strings.TrimSpace(fmt.Sprintf("%s%g %s", sign, f.Target, f.Unit)), met
	}
	return cells
}

func (f *Figure) parts() string {
	var parts []string
	for _, p := range f.Parts {
		parts = append(parts, p.Name+" "+number(p.Value, p.Unit))
	}
	return strings.Join(parts, ", ")
}

// number shows three digits, or all before the point.
func number(v float64, unit string) string {
	digits := 0
	if v != 0 {
		digits = min(3, max(0, 2-int(math.Floor(math.Log10(math.Abs(v))))))
	}
	if v == math.Trunc(v) && math.Abs(v) >= 10 {
		digits = 0
	}
	s := fmt.Sprintf("%.*f", digits, v)
	if unit != "" {
		s += " " + unit
	}
	return s
}
