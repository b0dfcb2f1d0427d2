package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// schema is what the tests read of a JSON schema of the document.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       types             `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	AllOf      []schema          `json:"allOf"`
	AnyOf      []schema          `json:"anyOf"`
	Items      *schema           `json:"items"`
	Minimum    json.Number       `json:"minimum"`
	Maximum    json.Number       `json:"maximum"`
	MaxItems   int               `json:"maxItems"`
	Default    json.RawMessage   `json:"default"`
}

// types are one or several in a schema.
type types []string

func (t *types) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(t))
	}
	*t = make(types, 1)
	return json.Unmarshal(b, &(*t)[0])
}

type document struct {
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

func readDocument(t *testing.T) *document {
	t.Helper()
	var d document
	dec := json.NewDecoder(bytes.NewReader(OpenAPI))
	dec.UseNumber()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// parts lists a schema and those that it is made of.
func (d *document) parts(s schema) []schema {
	out := []schema{s}
	if s.Ref != "" {
		out = append(out, d.parts(d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")])...)
	}
	for _, sub := range slices.Concat(s.AllOf, s.AnyOf) {
		out = append(out, d.parts(sub)...)
	}
	return out
}

// members are the members of an object that a schema describes.
func (d *document) members(s schema) map[string]schema {
	out := map[string]schema{}
	for _, p := range d.parts(s) {
		maps.Copy(out, p.Properties)
	}
	return out
}

// place is where a request has an object: path leads there, as messages show it, and
// body is a valid request with %s among the members of that object.
type place struct{ path, body string }

// decoders reads requests; only what the seed leaves to chance differs.
var decoders = map[string]func([]byte) (any, *Error){
	"CompletionRequest": decoder(DecodeCompletion),
	"ChatRequest":       decoder(DecodeChat),
	"ResponsesRequest":  decoder(DecodeResponses),
	"EmbeddingRequest":  decoder(DecodeEmbedding),
	"TokenizeRequest":   decoder(DecodeTokenize),
	"DetokenizeRequest": decoder(DecodeDetokenize),
	"LoadAdapter":       decoder(DecodeLoadAdapter),
	"UnloadAdapter":     decoder(DecodeUnloadAdapter),
}

func decoder[T any](decode func([]byte) (*T, *Error)) func([]byte) (any, *Error) {
	return func(body []byte) (any, *Error) { return decode(body) }
}

const (
	completionBody = `{"model":"m","seed":1,"prompt":"a",%s}`
	chatBody       = `{"model":"m","seed":1,"messages":[{"role":"user","content":"a"}],%s}`
	responsesBody  = `{"model":"m","seed":1,"input":"a",%s}`
)

// in puts an object at a member of a body.
func in(body, member string) string { return fmt.Sprintf(body, member) }

// part is what a schema tells of: a request, or an object at some places of one.
type part struct {
	request, schema string
	at              []place
}

var places = []part{
	{"CompletionRequest", "CompletionRequest", []place{{"", completionBody}}},
	{"CompletionRequest", "StreamOptions", []place{{"stream_options.", in(completionBody, `"stream":true,"stream_options":{%s}`)}}},
	{"CompletionRequest", "LoRA", []place{{"lora[0].", in(completionBody, `"lora":[{"name":"a",%s}]`)}}},
	{"CompletionRequest", "ResponseFormat", []place{
		{"response_format.", in(completionBody, `"response_format":{"type":"text",%s}`)},
		{"response_format.", in(completionBody, `"response_format":{"type":"json_object",%s}`)},
		{"response_format.", in(completionBody, `"response_format":{"type":"json_schema",%s}`)},
	}},
	{"CompletionRequest", "NamedSchema", []place{{"response_format.json_schema.", in(completionBody, `"response_format":{"type":"json_schema","json_schema":{"schema":{},%s}}`)}}},
	{"CompletionRequest", "StructuredOutputs", []place{{"structured_outputs.", in(completionBody, `"structured_outputs":{%s}`)}}},
	{"ChatRequest", "ChatRequest", []place{{"", chatBody}}},
	{"ChatRequest", "Message", []place{
		{"messages[0].", `{"model":"m","seed":1,"messages":[{"role":"user","content":"a",%s}]}`},
		{"messages[0].", `{"model":"m","messages":[{"role":"assistant","content":"a",%s}]}`},
		{"messages[0].", `{"model":"m","messages":[{"role":"assistant",%s}]}`},
		{"messages[0].", `{"model":"m","messages":[{"role":"tool","content":"a",%s}]}`},
	}},
	{"ChatRequest", "MessageCall", []place{{"messages[0].tool_calls[0].", `{"model":"m","seed":1,"messages":[{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"},%s}]}]}`}}},
	{"ResponsesRequest", "ResponsesRequest", []place{{"", responsesBody}}},
	{"EmbeddingRequest", "EmbeddingRequest", []place{{"", `{"model":"m","input":"a",%s}`}}},
	{"TokenizeRequest", "TokenizeRequest", []place{{"", `{"prompt":"a",%s}`}, {"", `{"messages":[{"role":"user","content":"a"}],%s}`}}},
	{"DetokenizeRequest", "DetokenizeRequest", []place{{"", `{"tokens":[1],%s}`}}},
	{"LoadAdapter", "LoadAdapter", []place{{"", `{"lora_name":"a","lora_path":"b",%s}`}}},
	{"UnloadAdapter", "UnloadAdapter", []place{{"", `{"lora_name":"a",%s}`}}},
}

// probes are values of every type, none of which all fields of another type take.
var probes = []string{`"x"`, `""`, `1.5`, `-1e300`, `true`, `[]`, `[1.5]`, `{}`, `{"x":1.5}`}

// with1 is the body at a place with one more member, after which a repeated one counts.
func (p place) with(name, value string) []byte {
	return fmt.Appendf(nil, p.body, strconv.Quote(name)+":"+value)
}

// blames tells whether an error is about a member at a place.
func (p place) blames(e *Error, name string) bool {
	return e != nil && (strings.Contains(e.Message, "'"+p.path+name+"'") || strings.Contains(e.Message, "'"+p.path+name+"[") ||
		strings.Contains(e.Message, "'"+p.path+name+"."))
}

// refused tells whether a member with some value is refused, at any of the places, for
// a reason such as wanted.
func (p *part) refused(name, value string, wanted func(*Error) bool) bool {
	return slices.ContainsFunc(p.at, func(at place) bool {
		_, err := decoders[p.request](at.with(name, value))
		return at.blames(err, name) && wanted(err)
	})
}

func anyReason(*Error) bool { return true }

// beyondLimit tells whether an error is about a limit that holds whatever else is asked.
func beyondLimit(e *Error) bool {
	return strings.Contains(e.Message, "maximum value") || strings.Contains(e.Message, "minimum value") || strings.HasSuffix(e.Code, "above_max_length")
}

// The fields that a decoder reads are those of the document. That one is read shows when
// some value of it is refused; every string in this package's source may be one.
func TestOpenAPIFields(t *testing.T) {
	d := readDocument(t)
	candidates := literals(t)
	for _, of := range places {
		documented := d.members(d.Components.Schemas[of.schema])
		read := func(name string) bool {
			return slices.ContainsFunc(probes, func(v string) bool { return of.refused(name, v, anyReason) })
		}
		for _, name := range slices.Sorted(maps.Keys(documented)) {
			if !read(name) {
				t.Errorf("%s: %s is in openapi.json, but nothing reads it", of.schema, name)
			}
		}
		for _, name := range candidates {
			if _, ok := documented[name]; !ok && read(name) {
				t.Errorf("%s: %s is read, but not in openapi.json", of.schema, name)
			}
		}
	}
}

// literals lists the strings of this package's source that may name a field, also those
// put together of a prefix and another.
func literals(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && name.MatchString(s) {
					found[s] = true
				}
			}
			return true
		})
	}
	for _, prefix := range slices.Collect(maps.Keys(found)) {
		if strings.HasSuffix(prefix, "_") {
			for _, s := range slices.Collect(maps.Keys(found)) {
				found[prefix+s] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Limits of numbers and lists are the decoder's: the limit is taken, what is beyond is
// not.
func TestOpenAPILimits(t *testing.T) {
	d := readDocument(t)
	for _, of := range places {
		for name, member := range d.members(d.Components.Schemas[of.schema]) {
			check := func(value string, within bool) {
				t.Helper()
				if over := of.refused(name, value, beyondLimit); over == within {
					t.Errorf("%s: %s %.40s is refused: %v, the document says %v", of.schema, name, value, over, !within)
				}
			}
			for _, s := range d.parts(member) {
				if s.MaxItems > 0 {
					element := "1"
					if kind := s.Items.Type; slices.Contains(kind, "string") {
						element = `"a"`
					} else if slices.Contains(kind, "array") {
						element = "[1]"
					}
					full := strings.Repeat(","+element, s.MaxItems)
					check("["+full[1:]+"]", true)
					check("["+element+full+"]", false)
				}
				if !slices.Contains(s.Type, "number") && !slices.Contains(s.Type, "integer") {
					continue
				}
				for limit, direction := range map[json.Number]string{s.Minimum: "-", s.Maximum: ""} {
					if limit == "" {
						check(direction+"1000000000000000", true)
						continue
					}
					check(string(limit), true)
					check(beyond(limit, direction), false)
				}
			}
		}
	}
}

// beyond is the next whole number, or less than the only limit that is none.
func beyond(limit json.Number, direction string) string {
	n, err := strconv.ParseInt(string(limit), 10, 64)
	switch {
	case err != nil: // a decimal, and low
		return "0.0099"
	case n == 1<<63-1 || n == -1<<63:
		return string(limit) + "0"
	case direction == "-":
		return strconv.FormatInt(n-1, 10)
	}
	return strconv.FormatInt(n+1, 10)
}

// A field that is null, or has its default, is as if it were not there.
func TestOpenAPIDefaults(t *testing.T) {
	d := readDocument(t)
	for _, of := range places {
		decode, p := decoders[of.request], of.at[0]
		s := d.Components.Schemas[of.schema]
		want, err := decode(bytes.ReplaceAll(fmt.Appendf(nil, p.body, ""), []byte(",}"), []byte("}")))
		if err != nil {
			t.Fatalf("%s: %v", of.schema, err)
		}
		for name, member := range d.members(s) {
			for _, part := range d.parts(member) {
				value := string(part.Default)
				if slices.Contains(part.Type, "null") && !strings.Contains(p.body, strconv.Quote(name)) {
					value = "null"
				}
				if value == "" {
					continue
				}
				if got, err := decode(p.with(name, value)); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s %s is not as if absent: %+v, %v", of.schema, name, value, got, err)
				}
			}
		}
	}
}

// The members of an answer are those of its schema, and are null and left out where it
// says so.
func TestOpenAPIAnswers(t *testing.T) {
	d := readDocument(t)
	for name, v := range map[string]any{
		"Completion": Completion{}, "Choice": Choice{}, "Logprobs": Logprobs{}, "Usage": Usage{}, "PromptTokensDetails": PromptTokensDetails{},
		"ChatCompletion": ChatCompletion{}, "ChatChoice": ChatChoice{}, "AnswerMessage": AnswerMessage{}, "ToolCall": ToolCall{}, "FunctionCall": FunctionCall{},
		"ChatChunk": ChatChunk{}, "ChatChunkChoice": ChatChunkChoice{}, "ChatDelta": ChatDelta{}, "ChatLogprobs": ChatLogprobs{}, "TokenLogprob": TokenLogprob{}, "LikelyToken": LikelyToken{},
		"Response": Response{}, "ResponseUsage": ResponseUsage{}, "MessageItem": MessageItem{}, "CallItem": CallItem{}, "OutputText": TextPart{},
		"ResponseError": ResponseError{}, "IncompleteDetails": IncompleteDetails{}, "InputTokensDetails": InputTokensDetails{}, "OutputTokensDetails": OutputTokensDetails{},
		"PromptLogprob": PromptLogprob{}, "EmbeddingList": EmbeddingList{}, "Embedding": Embedding{}, "EmbeddingUsage": EmbeddingUsage{},
		"Tokenization": Tokenization{}, "Detokenization": Detokenization{}, "TokenizerInfo": TokenizerInfo{},
		"Model": Model{}, "ModelList": ModelList{}, "ModelDeleted": ModelDeleted{},
		"Adapter": Adapter{}, "AdapterList": AdapterList{}, "AdapterBase": AdapterBase{}, "AdapterSlots": AdapterSlots{}, "AdapterHost": AdapterHost{}, "LoRAEntry": LoRAEntry{},
	} {
		s, ok := d.Components.Schemas[name]
		if !ok {
			t.Errorf("openapi.json has no schema %s", name)
			continue
		}
		members, required := jsonMembers(reflect.TypeOf(v))
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, slices.Sorted(maps.Keys(members))) {
			t.Errorf("%s: members %v, the type has %v", name, got, slices.Sorted(maps.Keys(members)))
		}
		slices.Sort(s.Required)
		if !slices.Equal(s.Required, required) {
			t.Errorf("%s: required %v, always sent are %v", name, s.Required, required)
		}
		for member, mayBeNull := range members {
			null := slices.ContainsFunc(d.parts(s.Properties[member]), func(p schema) bool { return slices.Contains(p.Type, "null") })
			if mayBeNull && !null && s.Properties[member].Type != nil && slices.Contains(s.Required, member) {
				t.Errorf("%s: %s may be null", name, member)
			}
		}
	}
}

// jsonMembers tells which members a type is sent with, which of them may be null, and
// which are always there, sorted.
func jsonMembers(typ reflect.Type) (nullable map[string]bool, required []string) {
	nullable = map[string]bool{}
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue // embedded: its fields are visible too
		}
		nullable[name] = f.Type.Kind() == reflect.Pointer
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return nullable, required
}
