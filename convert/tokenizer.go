package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// tokenizer is tokenizer.json.
type tokenizer struct {
	Added         []addedToken `json:"added_tokens"`
	Normalizer    *step        `json:"normalizer"`
	PreTokenizer  *step        `json:"pre_tokenizer"`
	PostProcessor *processor   `json:"post_processor"`
	Model         struct {
		Type         string         `json:"type"`
		Vocabulary   map[string]int `json:"vocab"`
		Merges       []merge        `json:"merges"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
		Unknown      string         `json:"unk_token"`
	} `json:"model"`
}

// step is a step before the model: a normalizer or pre-tokenizer, or a sequence of them.
type step struct {
	Type          string `json:"type"`
	Normalizers   []step `json:"normalizers"`
	PreTokenizers []step `json:"pretokenizers"`

	UseRegex         *bool  `json:"use_regex"`        // of ByteLevel
	AddPrefixSpace   bool   `json:"add_prefix_space"` // of ByteLevel, and Metaspace once
	PrependScheme    string `json:"prepend_scheme"`   // of Metaspace
	IndividualDigits bool   `json:"individual_digits"`
	Pattern          struct {
		Regex string `json:"Regex"`
	} `json:"pattern"` // of Split
}

// all are the steps, none of them a sequence.
func (s *step) all() []step {
	if s == nil {
		return nil
	}
	if s.Type != "Sequence" {
		return []step{*s}
	}
	var all []step
	for _, part := range append(s.Normalizers, s.PreTokenizers...) {
		all = append(all, part.all()...)
	}
	return all
}

// merge is a pair of tokens, in a text with a space between them or as a list.
type merge string

// UnmarshalJSON implements json.Unmarshaler.
func (m *merge) UnmarshalJSON(data []byte) error {
	var pair []string
	if json.Unmarshal(data, &pair) == nil {
		if len(pair) != 2 {
			return fmt.Errorf("a merge of %d tokens", len(pair))
		}
		*m = merge(pair[0] + " " + pair[1])
		return nil
	}
	return json.Unmarshal(data, (*string)(m))
}

// processor puts tokens around a text.
type processor struct {
	Type       string       `json:"type"`
	Processors []*processor `json:"processors"`
	Single     []struct {
		Special *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"`
}

// around returns the tokens before and after a text, "" if there is none.
func (p *processor) around() (before, after string) {
	if p == nil {
		return "", ""
	}
	for _, part := range p.Processors {
		if b, a := part.around(); b != "" || a != "" {
			return b, a
		}
	}
	if n := len(p.Single); p.Type == "TemplateProcessing" && n > 0 {
		if first := p.Single[0].Special; first != nil {
			before = first.ID
		}
		if last := p.Single[n-1].Special; last != nil && n > 1 {
			after = last.ID
		}
	}
	return before, after
}

// ofBytes tells whether tokens are made of bytes, as GPT-2's are.
func (t *tokenizer) ofBytes() bool {
	return slices.ContainsFunc(t.PreTokenizer.all(), func(s step) bool { return s.Type == byteLevel })
}

// fromBytes takes tokens over that are made of bytes.
func (v *vocabulary) fromBytes(t *tokenizer) error {
	for _, s := range t.Normalizer.all() {
		if s.Type != "NFC" { // llama.cpp takes texts as they are; nearly all are composed
			return fmt.Errorf("normalizer %.40q is not served", s.Type)
		}
	}
	var err error
	if v.pre, err = t.pretokenizer(); err != nil {
		return err
	}
	v.model = "gpt2"
	for _, m := range t.Model.Merges {
		v.merges = append(v.merges, string(m))
	}
	return v.take(t)
}

// take puts the tokens in their places.
func (v *vocabulary) take(t *tokenizer) error {
	if t.Model.Type != "" && t.Model.Type != "BPE" {
		return fmt.Errorf("model %.40q is not served (BPE is)", t.Model.Type)
	}
	if len(t.Model.Vocabulary) == 0 {
		return errors.New("it has no tokens")
	}
	for token, id := range t.Model.Vocabulary {
		if id < 0 || id >= len(v.tokens) {
			return fmt.Errorf("token %.60q has the id %d, but vocab_size is %d", token, id, len(v.tokens))
		}
		if v.types[id] != 0 {
			return fmt.Errorf("tokens %.60q and %.60q have one id", v.tokens[id], token)
		}
		v.tokens[id], v.types[id] = token, tokenNormal
	}
	return nil
}

const byteLevel = "ByteLevel"

// What pre-tokenizers split at, and llama.cpp's names for them.
const (
	contractions = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	wordsAndRest = ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	upper, lower = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
	before       = `[^\r\n\p{L}\p{N}]?`
	slashAndRest = ` ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

var pretokenizers = map[string]string{
	contractions + `|` + before + `\p{L}+|\p{N}|` + wordsAndRest:                                                                                  "qwen2",
	contractions + `|` + before + `\p{L}+|\p{N}{1,3}|` + wordsAndRest:                                                                             "llama-bpe",
	before + upper + `*` + lower + `+|` + before + upper + `+` + lower + `*|\p{N}|` + slashAndRest:                                                "tekken",
	before + upper + `*` + lower + `+` + contractions + `?|` + before + upper + `+` + lower + `*` + contractions + `?|\p{N}{1,3}|` + slashAndRest: "gpt-4o",
}

// pretokenizer is llama.cpp's name for what splits texts before the model does.
func (t *tokenizer) pretokenizer() (string, error) {
	var steps, patterns []string
	for _, s := range t.PreTokenizer.all() {
		name := s.Type
		switch {
		case s.Type == byteLevel && s.AddPrefixSpace:
			return "", errors.New("pre_tokenizer: add_prefix_space is not served")
		case s.Type == byteLevel && (s.UseRegex == nil || *s.UseRegex):
			name = "GPT-2"
		case s.Type == "Digits" && s.IndividualDigits:
			name = "Digit"
		case s.Type == "Split":
			patterns = append(patterns, s.Pattern.Regex)
		}
		steps = append(steps, name)
	}
	switch strings.Join(steps, " ") {
	case "GPT-2":
		return "gpt-2", nil
	case "Digit GPT-2":
		return "smollm", nil
	case "Split " + byteLevel:
		name, known := pretokenizers[patterns[0]]
		if name == "llama-bpe" && !t.Model.IgnoreMerges {
			name = "dbrx" // splits alike
		}
		if known {
			return name, nil
		}
	}
	return "", fmt.Errorf("pre_tokenizer: %s%.200q: no pre-tokenizer of llama.cpp is known to split alike", strings.Join(steps, ", "), patterns)
}

var byteToken = regexp.MustCompile(`^<0x[0-9A-F]{2}>$`)

// fromPieces takes tokens over that sentencepiece made, as tokenizer.json has them. What
// that lacks are scores, but merges stand in their order.
func (v *vocabulary) fromPieces(t *tokenizer) error {
	if !t.Model.ByteFallback {
		return errors.New("a tokenizer of neither bytes nor sentencepiece's BPE is not served")
	}
	v.model, v.spacePrefix = "llama", t.spacePrefix()
	if err := v.take(t); err != nil {
		return err
	}
	rank := map[string]int{}
	for i, m := range t.Model.Merges {
		left, right, _ := strings.Cut(string(m), " ")
		if _, known := rank[left+right]; !known {
			rank[left+right] = i
		}
	}
	v.scores = make([]float32, len(v.tokens))
	for id, token := range v.tokens {
		switch r, merged := rank[token]; {
		case merged:
			v.scores[id] = -float32(r)
		case utf8.RuneCountInString(token) > 1:
			v.scores[id] = -float32(len(t.Model.Merges)) // after all others: no merge makes it
		}
		switch {
		case token == t.Model.Unknown && token != "":
			v.types[id] = tokenUnknown
		case byteToken.MatchString(token):
			v.types[id] = tokenByte
		}
	}
	return nil
}

// spacePrefix tells whether a space is put before a text.
func (t *tokenizer) spacePrefix() bool {
	for _, s := range append(t.Normalizer.all(), t.PreTokenizer.all()...) {
		switch {
		case s.Type == "Prepend":
			return true
		case s.Type == "Metaspace" && (s.PrependScheme != "" && s.PrependScheme != "never" || s.PrependScheme == "" && s.AddPrefixSpace):
			return true
		}
	}
	return false
}
