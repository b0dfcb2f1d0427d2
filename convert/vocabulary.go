package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Types of tokens in GGUF.
const (
	tokenNormal int32 = 1 + iota
	tokenUnknown
	tokenControl
	tokenUserDefined
	tokenUnused
	tokenByte
)

// vocabulary is a tokenizer as llama.cpp wants it.
type vocabulary struct {
	model  string // "gpt2" for BPE of bytes, "llama" for sentencepiece's BPE
	pre    string // of gpt2: how texts are split before
	tokens []string
	types  []int32
	scores []float32 // of llama
	merges []string  // of gpt2

	special        map[string]uint32 // by llama.cpp's word for them
	addBOS, addEOS bool
	spacePrefix    bool // before a text
	strips         bool // white space behind added tokens, as llama.cpp knows it of Phi-3
	template       string
	notes          []string // what a user should know
}

// Files of a tokenizer, and how large they may be.
const (
	tokenizerFile       = "tokenizer.json"
	sentencepieceFile   = "tokenizer.model"
	tokenizerConfigFile = "tokenizer_config.json"
	templateFile        = "chat_template.jinja"
	addedTokensFile     = "added_tokens.json"

	maxTokenizerSize = 256 << 20
)

// readVocabulary reads the tokenizer. Tokens that the files do not name are filled up to
// as many as there are embeddings, as llama.cpp wants them.
func readVocabulary(dir fs.FS, c *config) (*vocabulary, error) {
	t, err := readJSON[tokenizer](dir, tokenizerFile)
	if err != nil {
		return nil, err
	}
	settings, err := readJSON[tokenizerConfig](dir, tokenizerConfigFile)
	if err != nil {
		return nil, err
	}
	if settings == nil {
		settings = &tokenizerConfig{}
	}
	v := &vocabulary{tokens: make([]string, c.Vocabulary), types: make([]int32, c.Vocabulary), special: map[string]uint32{}}
	file, err := v.learned(dir, t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	added, err := addedTokens(dir, t, settings)
	if err != nil {
		return nil, err
	}
	v.add(added)
	v.setStrips(added)
	if err := v.fill(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	v.setSpecial(c, settings)
	v.setAround(t, settings)
	v.template, err = chatTemplate(dir, settings)
	return v, err
}

// learned takes the tokens over that were learned, from the file that tells most of them.
// t is tokenizer.json, or nil.
func (v *vocabulary) learned(dir fs.FS, t *tokenizer) (file string, err error) {
	if t != nil && t.ofBytes() {
		return tokenizerFile, v.fromBytes(t)
	}
	if _, err := fs.Stat(dir, sentencepieceFile); !errors.Is(err, fs.ErrNotExist) {
		err := v.fromSentencepiece(dir)
		if t != nil {
			v.spacePrefix = t.spacePrefix()
		}
		return sentencepieceFile, err
	}
	if t == nil {
		return tokenizerFile, errors.New("is missing, and there is no " + sentencepieceFile)
	}
	return tokenizerFile, v.fromPieces(t)
}

// readJSON reads a file; nil if it is not there.
func readJSON[T any](dir fs.FS, name string) (*T, error) {
	data, err := readSmall(dir, name, maxTokenizerSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	to := new(T)
	if err := json.Unmarshal(data, to); err != nil {
		return nil, fmt.Errorf("%s: not the JSON expected: %w", name, err)
	}
	return to, nil
}

// tokenizerConfig is tokenizer_config.json.
type tokenizerConfig struct {
	AddBOS *bool                 `json:"add_bos_token"`
	AddEOS *bool                 `json:"add_eos_token"`
	BOS    tokenName             `json:"bos_token"`
	EOS    tokenName             `json:"eos_token"`
	UNK    tokenName             `json:"unk_token"`
	PAD    tokenName             `json:"pad_token"`
	Added  map[string]addedToken `json:"added_tokens_decoder"` // by id

	ChatTemplate json.RawMessage `json:"chat_template"` // a text, or a list of named ones
}

// tokenName is a token's text, or an object that holds it.
type tokenName string

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokenName) UnmarshalJSON(data []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(data, &object) == nil {
		*t = tokenName(object.Content)
		return nil
	}
	return json.Unmarshal(data, (*string)(t))
}

// addedToken is one that stands beside those that were learned.
type addedToken struct {
	ID      int    `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
	LStrip  bool   `json:"lstrip"`
	RStrip  bool   `json:"rstrip"`
}

// addedTokens are those of the first file that names some.
func addedTokens(dir fs.FS, t *tokenizer, settings *tokenizerConfig) ([]addedToken, error) {
	if t != nil && len(t.Added) > 0 {
		return t.Added, nil
	}
	var added []addedToken
	for _, key := range slices.Sorted(maps.Keys(settings.Added)) {
		token := settings.Added[key]
		id, err := strconv.Atoi(key)
		if err != nil {
			return nil, fmt.Errorf("%s: added_tokens_decoder: %.40q is no token's id", tokenizerConfigFile, key)
		}
		token.ID = id
		added = append(added, token)
	}
	if len(added) > 0 {
		return added, nil
	}
	ids, err := readJSON[map[string]int](dir, addedTokensFile)
	if err != nil || ids == nil {
		return nil, err
	}
	for content, id := range *ids {
		added = append(added, addedToken{ID: id, Content: content})
	}
	return added, nil
}

// add puts the added tokens in their places. Those beyond the embeddings can't be used, and
// some bases have such.
func (v *vocabulary) add(added []addedToken) {
	for _, t := range added {
		if t.ID < 0 || t.ID >= len(v.tokens) || v.types[t.ID] == tokenUnknown {
			continue
		}
		v.tokens[t.ID], v.types[t.ID] = t.Content, tokenControl
		if !t.Special {
			v.types[t.ID] = tokenUserDefined
			if v.model == "llama" { // its spaces are written out in texts
				v.tokens[t.ID] = strings.ReplaceAll(t.Content, spaceMark, " ")
			}
		}
	}
}

// Phi-3's tokenizer drops white space behind all added tokens but these. llama.cpp does so if
// the base's name has the model's, whatever base it is, and loads none without these and </s>.
var (
	keepSpace = []string{"<unk>", "<s>", "<|endoftext|>"}
	phi3Name  = regexp.MustCompile(`(?i)phi-?3`)
)

func (v *vocabulary) setStrips(added []addedToken) {
	strip, asPhi3 := "", true
	for _, t := range slices.Concat(keepSpace, []string{"</s>"}) {
		asPhi3 = asPhi3 && slices.Contains(v.tokens, t)
	}
	for _, t := range added {
		if t.LStrip || t.RStrip {
			strip = t.Content
		}
		asPhi3 = asPhi3 && !t.LStrip && t.RStrip != slices.Contains(keepSpace, t.Content)
	}
	switch {
	case strip == "":
	case asPhi3:
		v.strips = true
	default:
		v.notes = append(v.notes, fmt.Sprintf("transformers drops white space beside some added tokens (%.40q is one), llama.cpp keeps it: texts that have some there get other tokens", strip))
	}
}

// name changes the base's name as far as llama.cpp goes by it.
func (v *vocabulary) name(name string) string {
	switch named := phi3Name.MatchString(name); {
	case v.strips && !named:
		return "Phi-3 " + name
	case !v.strips && named:
		return phi3Name.ReplaceAllString(name, "Phi 3")
	}
	return name
}

const spaceMark = "▁" // sentencepiece's space

// fill names the places without a token. llama.cpp aborts if two have one name.
func (v *vocabulary) fill() error {
	used := make(map[string]int, len(v.tokens))
	for i, t := range v.tokens {
		if v.types[i] == 0 {
			t = fmt.Sprintf("[PAD%d]", i)
			v.tokens[i], v.types[i] = t, tokenUnused
		}
		if first, twice := used[t]; twice {
			return fmt.Errorf("token %d is %.60q, as token %d is", i, t, first)
		}
		used[t] = i
	}
	return nil
}

// setSpecial finds the tokens that have a role.
func (v *vocabulary) setSpecial(c *config, settings *tokenizerConfig) {
	for word, id := range map[string]json.RawMessage{"bos": c.BOS, "eos": c.EOS} {
		var one int
		var several []int
		if json.Unmarshal(id, &several) == nil && len(several) > 0 {
			one = several[0]
		} else if json.Unmarshal(id, &one) != nil || !given(id) {
			continue
		}
		if one >= 0 && one < len(v.tokens) {
			v.special[word] = uint32(one)
		}
	}
	for word, name := range map[string]tokenName{"bos": settings.BOS, "eos": settings.EOS, "unknown": settings.UNK, "padding": settings.PAD} {
		if id := slices.Index(v.tokens, string(name)); name != "" && id >= 0 {
			v.special[word] = uint32(id)
		}
	}
}

// setAround finds out whether tokens go before and after a text.
func (v *vocabulary) setAround(t *tokenizer, settings *tokenizerConfig) {
	if t == nil {
		v.addBOS = true // as sentencepiece's do, if nothing else is said
	} else {
		before, after := t.PostProcessor.around()
		v.addBOS, v.addEOS = before != "", after != ""
		if id := slices.Index(v.tokens, before); before != "" && id >= 0 {
			v.special["bos"] = uint32(id)
		}
	}
	if settings.AddBOS != nil {
		v.addBOS = *settings.AddBOS
	}
	if settings.AddEOS != nil {
		v.addEOS = *settings.AddEOS
	}
}

// chatTemplate is that of the file of its own, or of tokenizer_config.json.
func chatTemplate(dir fs.FS, settings *tokenizerConfig) (string, error) {
	const limit = 1 << 20
	data, err := readSmall(dir, templateFile, limit)
	if err == nil {
		return string(data), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !given(settings.ChatTemplate) {
		return "", nil
	}
	var text string
	if json.Unmarshal(settings.ChatTemplate, &text) == nil {
		return text, nil
	}
	var named []struct{ Name, Template string }
	if err := json.Unmarshal(settings.ChatTemplate, &named); err != nil {
		return "", fmt.Errorf("%s: chat_template is neither a text nor a list of them", tokenizerConfigFile)
	}
	for _, t := range named {
		if t.Name == "default" {
			return t.Template, nil
		}
	}
	return "", nil
}

// describe adds the vocabulary to a file's metadata.
func (v *vocabulary) describe(m metadata) {
	m["tokenizer.ggml.model"] = v.model
	m["tokenizer.ggml.tokens"], m["tokenizer.ggml.token_type"] = v.tokens, v.types
	if v.model == "gpt2" {
		m["tokenizer.ggml.pre"], m["tokenizer.ggml.merges"] = v.pre, v.merges
	} else {
		m["tokenizer.ggml.pre"], m["tokenizer.ggml.scores"] = "default", v.scores
		m["tokenizer.ggml.add_space_prefix"] = v.spacePrefix
	}
	for word, id := range v.special {
		m["tokenizer.ggml."+word+"_token_id"] = id
	}
	m["tokenizer.ggml.add_bos_token"], m["tokenizer.ggml.add_eos_token"] = v.addBOS, v.addEOS
	if v.template != "" {
		m["tokenizer.chat_template"] = v.template
	}
}
