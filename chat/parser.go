package chat

import (
	"crypto/rand"
	"encoding/json"
	"regexp"
	"strings"
)

// Parser reads the calls out of an answer while it comes, in pieces that may end
// anywhere. What it gives does not depend on where they do.
type Parser struct {
	form  *form
	known map[string]bool // names of tools

	state state
	held  string // not understood yet
	raw   string // of the call that may have begun, to be given back if it is none
	scan  scanner
	calls int  // so far
	spoke bool // there was content since the last one
}

type state int

const (
	outside   state = iota // in the content
	opening                // behind a marker
	call                   // where a call is to begin
	arguments              // in the arguments
	remainder              // behind them, in the call's object
	closing                // behind a call
)

// NewParser makes the parser of one answer.
func (t *Template) NewParser(tools []Tool, c Choice) *Parser {
	p := &Parser{form: t.form, known: map[string]bool{}}
	for _, tool := range tools {
		if c.Mode != Named || tool.Name == c.Name {
			p.known[tool.Name] = true
		}
	}
	return p
}

// Add takes the next piece of the answer's text.
func (p *Parser) Add(text string) Delta {
	p.held += text
	var d Delta
	for p.step(&d, false) {
	}
	return d
}

// End gives what was held back when the answer is at its end.
func (p *Parser) End() Delta {
	var d Delta
	for p.step(&d, true) {
	}
	if p.state == opening || p.state == call {
		p.held = p.raw + p.held
	}
	if p.state <= call && !p.between(p.held) {
		d.Content += p.held
	}
	p.held, p.raw = "", ""
	return d
}

// step understands some of what is held. It returns false when that needs more text.
func (p *Parser) step(d *Delta, last bool) bool {
	switch p.state {
	case outside:
		return p.content(d, last)
	case opening:
		return p.open(d)
	case call:
		return p.begin(d)
	case arguments:
		n, ended := p.scan.object(p.held)
		if n > 0 {
			p.delta(d).Arguments += p.take(n)
		}
		if !ended {
			return false
		}
		p.state = remainder
		if p.form.bare {
			p.called()
		} else {
			p.scan = scanner{depth: 1}
		}
	case remainder:
		n, ended := p.scan.object(p.held)
		p.take(n)
		if !ended {
			return false
		}
		p.called()
	case closing:
		return p.close(last)
	}
	return true
}

// take takes the first bytes off what is held.
func (p *Parser) take(n int) string {
	s := p.held[:n]
	p.held = p.held[n:]
	return s
}

// skip takes blanks off what is held, into raw.
func (p *Parser) skip() {
	p.raw += p.take(len(p.held) - len(strings.TrimLeft(p.held, blanks)))
}

const blanks = " \t\r\n"

func blank(s string) bool { return strings.Trim(s, blanks) == "" }

// content gives text on up to what is, or may become, a marker. Blanks between calls
// are none.
func (p *Parser) content(d *Delta, last bool) bool {
	at, marker := -1, ""
	for _, m := range p.form.markers {
		if i := strings.Index(p.held, m); i >= 0 && (at < 0 || i < at) {
			at, marker = i, m
		}
	}
	if at < 0 {
		n := len(p.held)
		if !last {
			for _, m := range p.form.markers {
				n = min(n, len(p.held)-overlap(p.held, m))
			}
		}
		if !p.between(p.held[:n]) {
			p.say(d, p.take(n))
		}
		return false
	}
	if before := p.take(at); !p.between(before) {
		p.say(d, before)
	}
	p.state, p.raw = opening, ""
	if !strings.HasPrefix(marker, "{") {
		p.raw = p.take(len(marker))
	}
	return true
}

func (p *Parser) say(d *Delta, text string) {
	d.Content += text
	p.spoke = p.spoke || text != ""
}

// between tells whether text is no more than what stands between calls.
func (p *Parser) between(text string) bool {
	return p.calls > 0 && !p.spoke && strings.Trim(text, blanks+strings.Trim(p.form.between, blanks)) == ""
}

// overlap is how much of the end of a text is the beginning of a marker.
func overlap(text, marker string) int {
	for n := min(len(text), len(marker)-1); n > 0; n-- {
		if strings.HasSuffix(text, marker[:n]) {
			return n
		}
	}
	return 0
}

// open reads what stands between a marker and a call.
func (p *Parser) open(d *Delta) bool {
	p.skip()
	want := strings.Trim(p.form.opening, blanks)
	switch {
	case p.held == "":
		return false
	case want == "":
	case strings.HasPrefix(p.held, want):
		p.raw += p.take(len(want))
	default:
		p.giveBack(d)
		return true
	}
	p.state = call
	return true
}

// giveBack makes content of what was taken for the beginning of a call.
func (p *Parser) giveBack(d *Delta) {
	if p.raw == "" { // the marker is still held, and would be found again
		p.raw = p.take(1)
	}
	p.say(d, p.raw)
	p.state, p.raw = outside, ""
}

// maxHead is how many bytes a call may have before its arguments.
const maxHead = 1 << 10

// maxCall is how many bytes a call may have whose arguments do not come last: it is read
// when it is whole.
const maxCall = 16 << 10

var (
	head     = regexp.MustCompile(`^\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*\{`)
	bareHead = regexp.MustCompile(`^([A-Za-z0-9_.-]+)\[ARGS\]\s*\{`)
)

// begin reads a call's name, and the whole call if its members come in another order.
func (p *Parser) begin(d *Delta) bool {
	p.skip()
	if p.held == "" {
		return false
	}
	if p.form.bare {
		return p.beginBare(d)
	}
	if p.held[0] != '{' {
		p.giveBack(d)
		return true
	}
	if m := head.FindStringSubmatchIndex(p.held[:min(len(p.held), maxHead)]); m != nil {
		var name string
		if json.Unmarshal([]byte(p.held[m[2]:m[3]]), &name) == nil && p.known[name] {
			p.take(m[1] - 1)
			p.start(d, name)
			return true
		}
	}
	var s scanner
	n, ended := s.object(p.held)
	switch {
	case n > maxCall:
		p.giveBack(d)
		return true
	case !ended:
		return false
	}
	object := p.take(n)
	if name, given := p.understood(object); given != "" {
		p.start(d, name)
		p.delta(d).Arguments = given
		p.called()
		return true
	}
	p.raw += object
	p.giveBack(d)
	return true
}

// understood reads a call whose members come in any order; given is "" if it is none.
func (p *Parser) understood(object string) (name, given string) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(object), &members) != nil || json.Unmarshal(members["name"], &name) != nil || !p.known[name] {
		return "", ""
	}
	for _, member := range []string{"arguments", "parameters"} {
		if v := members[member]; len(v) > 0 && v[0] == '{' {
			return name, string(v)
		}
	}
	return "", ""
}

func (p *Parser) beginBare(d *Delta) bool {
	const longest = 256 // of a name with what follows it
	m := bareHead.FindStringSubmatchIndex(p.held)
	switch {
	case m == nil && len(p.held) < longest && !strings.Contains(p.held, "{"):
		return false
	case m == nil || !p.known[p.held[m[2]:m[3]]]:
		p.giveBack(d)
	default:
		name := p.held[m[2]:m[3]]
		p.take(m[1] - 1)
		p.start(d, name)
	}
	return true
}

// start tells of a call whose arguments come next.
func (p *Parser) start(d *Delta, name string) {
	p.state, p.raw, p.scan = arguments, "", scanner{}
	d.Calls = append(d.Calls, CallDelta{Index: p.calls, ID: p.form.newID(), Name: name})
}

// delta is where more of the present call goes.
func (p *Parser) delta(d *Delta) *CallDelta {
	if n := len(d.Calls); n == 0 || d.Calls[n-1].Index != p.calls {
		d.Calls = append(d.Calls, CallDelta{Index: p.calls})
	}
	return &d.Calls[len(d.Calls)-1]
}

// called ends a call.
func (p *Parser) called() {
	p.calls++
	p.state, p.raw, p.spoke = closing, "", false
}

// close reads what ends a call, or leads to the next one; models may leave it out.
func (p *Parser) close(last bool) bool {
	marks := map[string]state{}
	if p.form.closing != "" {
		marks[strings.Trim(p.form.closing, blanks)] = outside
	}
	if !p.form.repeat {
		marks[strings.Trim(p.form.between, blanks)] = call
	}
	if p.form.end != "" {
		marks[p.form.end] = outside
	}
	rest := strings.TrimLeft(p.held, blanks)
	for mark, next := range marks {
		if strings.HasPrefix(rest, mark) {
			p.held, p.raw, p.state = rest[len(mark):], "", next
			if next == call {
				p.raw = mark
			}
			return true
		}
		if strings.HasPrefix(mark, rest) && !last { // it may become one
			return false
		}
	}
	p.state = outside
	return true
}

// newID makes up the id of a call.
func (f *form) newID() string {
	if f.idLength > 0 {
		return rand.Text()[:f.idLength]
	}
	return "call_" + rand.Text()
}

// scanner finds the end of a JSON object.
type scanner struct {
	depth         int
	text, escaped bool
}

// object reads on in an object, and tells how many bytes belong to it and whether it is
// at its end.
func (s *scanner) object(text string) (n int, ended bool) {
	for i := range len(text) {
		switch c := text[i]; {
		case s.escaped:
			s.escaped = false
		case s.text && c == '\\':
			s.escaped = true
		case c == '"':
			s.text = !s.text
		case s.text:
		case c == '{' || c == '[':
			s.depth++
		case c == '}' || c == ']':
			if s.depth--; s.depth == 0 {
				return i + 1, true
			}
		}
	}
	return len(text), false
}
