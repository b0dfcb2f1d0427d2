package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

type entry struct {
	name    string
	Type    string
	Shape   []int
	Offsets [2]uint64
}

const maxDims = 8

// parseHeader reads the JSON of a header. It knows what has to be there, and takes
// nothing else: so nothing nests, and no value has to be passed over.
func parseHeader(header []byte) ([]entry, error) {
	s := &scanner{rest: header}
	if s.space(); len(s.rest) == 0 || s.rest[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	var entries []entry
	seen := map[string]bool{}
	err := s.object(func(name string) error {
		if seen[name] {
			return fmt.Errorf("%.100q occurs twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			if err := s.metadata(); err != nil {
				return fmt.Errorf("__metadata__: %w", err)
			}
			return nil
		}
		if len(entries) == MaxTensors {
			return fmt.Errorf("more than %d tensors", MaxTensors)
		}
		e := entry{name: name}
		if err := s.entry(&e); err != nil {
			return fmt.Errorf("tensor %.100q: %w", name, err)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.space(); len(s.rest) > 0 {
		return nil, errors.New("data after the JSON object")
	}
	return entries, nil
}

// scanner reads JSON from the front of rest.
type scanner struct{ rest []byte }

func (s *scanner) space() {
	for i, c := range s.rest {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			s.rest = s.rest[i:]
			return
		}
	}
	s.rest = nil
}

// next tells whether c comes next, and if so, goes past it.
func (s *scanner) next(c byte) bool {
	s.space()
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) expected(what string) error {
	s.space()
	if len(s.rest) == 0 {
		return errors.New("the JSON ends early")
	}
	return fmt.Errorf("%s was expected, not %.20q", what, s.rest[:min(len(s.rest), 20)])
}

// list reads the elements between two brackets.
func (s *scanner) list(open, end byte, element func() error) error {
	if !s.next(open) {
		return s.expected(string(open))
	}
	if s.next(end) {
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		if s.next(end) {
			return nil
		}
		if !s.next(',') {
			return s.expected(", or " + string(end))
		}
	}
}

// object has value read the value of each member.
func (s *scanner) object(value func(name string) error) error {
	return s.list('{', '}', func() error {
		name, err := s.text()
		if err != nil {
			return err
		}
		if !s.next(':') {
			return s.expected(":")
		}
		return value(name)
	})
}

func (s *scanner) text() (string, error) {
	if !s.next('"') {
		return "", s.expected("a text")
	}
	plain := true
	for i := 0; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return "", fmt.Errorf("a text holds the character %#x", c)
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			if !utf8.Valid(text) {
				return "", errors.New("a text is not UTF-8")
			}
			if plain {
				return string(text), nil
			}
			var unescaped string
			err := json.Unmarshal(slices.Concat([]byte{'"'}, text, []byte{'"'}), &unescaped)
			return unescaped, err
		}
	}
	return "", errors.New("the JSON ends early")
}

func (s *scanner) number() (uint64, error) {
	s.space()
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	if n == 0 || n > 1 && s.rest[0] == '0' {
		return 0, s.expected("a whole number")
	}
	v, err := strconv.ParseUint(string(s.rest[:n]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%.40s is too large", s.rest[:n])
	}
	s.rest = s.rest[n:]
	return v, nil
}

// metadata are texts, which don't matter, or null.
func (s *scanner) metadata() error {
	if s.space(); len(s.rest) >= 4 && string(s.rest[:4]) == "null" {
		s.rest = s.rest[4:]
		return nil
	}
	return s.object(func(string) error {
		_, err := s.text()
		return err
	})
}

func (s *scanner) entry(e *entry) error {
	var dtype, shape, offsets bool
	err := s.object(func(name string) (err error) {
		switch {
		case name == "dtype" && !dtype:
			dtype = true
			e.Type, err = s.text()
		case name == "shape" && !shape:
			shape = true
			e.Shape, err = s.shape()
		case name == "data_offsets" && !offsets:
			offsets = true
			e.Offsets, err = s.offsets()
		default:
			return fmt.Errorf("%.40q is unknown or occurs twice", name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err == nil && (!dtype || !shape || !offsets) {
		err = errors.New("dtype, shape or data_offsets is missing")
	}
	return err
}

func (s *scanner) shape() ([]int, error) {
	shape := []int{}
	err := s.list('[', ']', func() error {
		d, err := s.number()
		switch {
		case err != nil:
			return err
		case d > 1<<32:
			return fmt.Errorf("a dimension of %d", d)
		case len(shape) == maxDims:
			return fmt.Errorf("more than %d dimensions", maxDims)
		}
		shape = append(shape, int(d))
		return nil
	})
	return shape, err
}

func (s *scanner) offsets() (offsets [2]uint64, err error) {
	n := 0
	err = s.list('[', ']', func() (err error) {
		if n == len(offsets) {
			return errors.New("more than two")
		}
		offsets[n], err = s.number()
		n++
		return err
	})
	if err == nil && n < len(offsets) {
		err = errors.New("less than two")
	}
	return offsets, err
}

// size is the bytes that type and shape call for.
func (e *entry) size() (uint64, error) {
	size := uint64(elementSize[e.Type])
	if size == 0 {
		return 0, fmt.Errorf("unknown type %.20q", e.Type)
	}
	for _, d := range e.Shape {
		if d != 0 && size > (1<<62)/uint64(d) {
			return 0, fmt.Errorf("shape %v", e.Shape)
		}
		size *= uint64(d)
	}
	return size, nil
}
