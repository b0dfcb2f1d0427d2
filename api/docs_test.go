package api

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/api.md has a row for each field of a request, with its default and limits, and
// none for what is no field.
func TestDocumentedFields(t *testing.T) {
	b, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	d := readDocument(t)
	rows := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		if m := regexp.MustCompile("^\\| `([a-z_]+)` \\|").FindStringSubmatch(line); m != nil {
			rows[m[1]] = append(rows[m[1]], line)
		}
	}
	known := map[string]bool{}
	for _, of := range places {
		for name, member := range d.members(d.Components.Schemas[of.schema]) {
			known[name] = true
			if len(rows[name]) == 0 {
				if !strings.Contains(string(b), "`"+name+"`") { // of those that are not served
					t.Errorf("%s: docs/api.md does not know %s", of.schema, name)
				}
				continue
			}
			for _, part := range d.parts(member) {
				for _, want := range []string{string(part.Minimum), string(part.Maximum), string(part.Default)} {
					if !slices.ContainsFunc(rows[name], func(row string) bool { return strings.Contains(row, want) }) {
						t.Errorf("%s: the row of %s does not say %s: %s", of.schema, name, want, rows[name])
					}
				}
			}
		}
	}
	for _, s := range d.Components.Schemas { // members of parts of requests
		for name := range d.members(s) {
			known[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		if !known[name] {
			t.Errorf("docs/api.md has a row for %s, which nothing reads", name)
		}
	}
}
