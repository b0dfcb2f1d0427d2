package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// orders remembers in which order the members of objects came, which the engine's maps
// forget: a model was trained on a certain one. The keys are the maps' addresses.
type orders map[uintptr]*ordered

type ordered struct {
	of    map[string]any // kept, so that the address stays its own
	names []string
}

// object makes a map with ordered members.
func (o orders) object(members ...member) map[string]any {
	m := map[string]any{}
	for _, member := range members {
		o.put(m, member.name, member.value)
	}
	return m
}

type member struct {
	name  string
	value any
}

func (o orders) put(m map[string]any, name string, value any) {
	if _, there := m[name]; !there {
		at := reflect.ValueOf(m).Pointer()
		if o[at] == nil {
			o[at] = &ordered{of: m}
		}
		o[at].names = append(o[at].names, name)
	}
	m[name] = value
}

// keys are the members' names in their order; those that came later stand last, sorted.
func (o orders) keys(m map[string]any) []string {
	var keys []string
	if known := o[reflect.ValueOf(m).Pointer()]; known != nil {
		keys = slices.DeleteFunc(slices.Clone(known.names), func(k string) bool { _, there := m[k]; return !there })
	}
	if len(keys) == len(m) {
		return keys
	}
	known := make(map[string]bool, len(keys))
	for _, k := range keys {
		known[k] = true
	}
	for k := range m {
		if !known[k] {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys[len(known):])
	return keys
}

// decode reads JSON; what is none stays the text that it is.
func (o orders) decode(text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := o.value(d)
	if err != nil || d.More() {
		return string(text)
	}
	return v
}

func (o orders) value(d *json.Decoder) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if n, err := strconv.Atoi(t.String()); err == nil {
			return n, nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			list := []any{}
			for d.More() {
				v, err := o.value(d)
				if err != nil {
					return nil, err
				}
				list = append(list, v)
			}
			_, err := d.Token()
			return list, err
		}
		m := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := o.value(d)
			if err != nil {
				return nil, err
			}
			o.put(m, name.(string), v) // the decoder takes nothing else for a name
		}
		_, err := d.Token()
		return m, err
	}
	return t, nil
}

// variables are what a template sees.
func (t *Template) variables(p *program, c Conversation) map[string]any {
	messages := []any{}
	for _, m := range c.Messages {
		messages = append(messages, p.order.message(m))
	}
	vars := map[string]any{}
	for name, v := range c.Extra {
		vars[name] = v
	}
	vars["messages"] = messages
	vars["add_generation_prompt"] = !c.Continue
	vars["bos_token"], vars["eos_token"] = t.options.BOS, t.options.EOS
	vars["tools"], vars["documents"] = nil, nil
	if len(c.Tools) > 0 && t.takesTools {
		vars["tools"] = p.order.tools(c.Tools)
	}
	return vars
}

func (o orders) message(m Message) map[string]any {
	out := o.object(member{"role", m.Role}, member{"content", m.Content})
	if m.Name != "" {
		o.put(out, "name", m.Name)
	}
	if m.ToolCallID != "" {
		o.put(out, "tool_call_id", m.ToolCallID)
	}
	if len(m.ToolCalls) > 0 {
		calls := []any{}
		for _, call := range m.ToolCalls {
			function := o.object(member{"name", call.Name}, member{"arguments", o.decode([]byte(call.Arguments))})
			calls = append(calls, o.object(member{"id", call.ID}, member{"type", "function"}, member{"function", function}))
		}
		o.put(out, "tool_calls", calls)
	}
	return out
}

// tools are as OpenAI's clients send them.
func (o orders) tools(tools []Tool) []any {
	var out []any
	for _, t := range tools {
		function := o.object(member{"name", t.Name})
		if t.Description != "" {
			o.put(function, "description", t.Description)
		}
		if t.Parameters != nil {
			o.put(function, "parameters", o.decode(t.Parameters))
		}
		if t.Strict {
			o.put(function, "strict", true)
		}
		out = append(out, o.object(member{"type", "function"}, member{"function", function}))
	}
	return out
}

// toJSON is Python's json.dumps, as transformers' filter calls it.
func (p *program) toJSON(_ *exec.Evaluator, in *exec.Value, args *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	w := newJSONWriter(p.order, p.limits)
	option := func(name string, position int) *exec.Value {
		if position < len(args.Args) {
			return args.Args[position]
		}
		if v, ok := args.KwArgs[name]; ok {
			return v
		}
		return exec.AsValue(nil)
	}
	if v := option("indent", 1); v.IsInteger() {
		w.indent, w.comma = min(v.Integer(), 16), ","
	}
	if v := option("separators", 2); v.IsList() && v.Len() == 2 {
		w.comma, w.colon = v.Index(0).String(), v.Index(1).String()
	}
	w.sorted = option("sort_keys", 3).IsTrue()
	w.write(in.Interface(), 0)
	if p.limits.refused != nil {
		return exec.AsValue(p.limits.refused)
	}
	return exec.AsSafeValue(w.String())
}

// jsonWriter writes JSON as Python does: ", " and ": " between members, objects in their
// order, nothing escaped that need not be.
type jsonWriter struct {
	strings.Builder
	order        orders
	limits       *limits
	indent       int // -1: all in one line
	comma, colon string
	sorted       bool
}

func newJSONWriter(o orders, l *limits) *jsonWriter {
	return &jsonWriter{order: o, limits: l, indent: -1, comma: ", ", colon: ": "}
}

func (w *jsonWriter) write(v any, depth int) {
	if depth > maxNesting {
		w.WriteString("null")
		return
	}
	switch v := v.(type) {
	case nil:
		w.WriteString("null")
	case bool:
		w.WriteString(strconv.FormatBool(v))
	case string:
		w.text(v)
	case float64:
		w.float(v)
	case *exec.Value:
		w.write(v.Interface(), depth)
	case map[string]any:
		keys := w.order.keys(v)
		if w.sorted {
			slices.Sort(keys)
		}
		w.list('{', '}', len(keys), depth, func(i int) {
			w.text(keys[i])
			w.WriteString(w.colon)
			w.write(v[keys[i]], depth+1)
		})
	case *exec.Dict:
		w.list('{', '}', len(v.Pairs), depth, func(i int) {
			w.text(v.Pairs[i].Key.String())
			w.WriteString(w.colon)
			w.write(v.Pairs[i].Value, depth+1)
		})
	default:
		w.other(reflect.ValueOf(v), depth)
	}
}

// other writes what the engine has made of values.
func (w *jsonWriter) other(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		w.list('[', ']', v.Len(), depth, func(i int) { w.write(v.Index(i).Interface(), depth+1) })
	case reflect.Struct:
		if d, ok := v.Interface().(exec.Dict); ok {
			w.write(&d, depth)
			return
		}
		w.text(fmt.Sprint(v.Interface()))
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			w.WriteString("null")
			return
		}
		w.write(v.Elem().Interface(), depth)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.WriteString(strconv.FormatInt(v.Int(), 10))
	default:
		w.text(fmt.Sprint(v.Interface()))
	}
}

func (w *jsonWriter) list(open, end byte, n, depth int, element func(i int)) {
	w.WriteByte(open)
	for i := range n {
		if w.limits.allow(w.Len()) != nil {
			return
		}
		if i > 0 {
			w.WriteString(w.comma)
		}
		w.newline(depth + 1)
		element(i)
	}
	if n > 0 {
		w.newline(depth)
	}
	w.WriteByte(end)
}

func (w *jsonWriter) newline(depth int) {
	if w.indent >= 0 {
		w.WriteByte('\n')
		w.WriteString(strings.Repeat(" ", w.indent*depth))
	}
}

func (w *jsonWriter) text(s string) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can be encoded
	quoted := strings.TrimSuffix(b.String(), "\n")
	quoted = strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\\`, `\\`).Replace(quoted) // Python leaves these
	w.WriteString(quoted)
}

// float writes the shortest digits, with an exponent where Python does.
func (w *jsonWriter) float(f float64) {
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		w.WriteString("NaN")
	case math.IsInf(f, 0):
		w.WriteString(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+") + "inity")
	case abs != 0 && (abs < 1e-4 || abs >= 1e16):
		w.WriteString(strconv.FormatFloat(f, 'e', -1, 64))
	default:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		w.WriteString(s)
	}
}

// items is the filter of that name.
func (p *program) items(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	m, ok := in.Interface().(map[string]any)
	if !ok {
		return exec.AsValue(errors.New("items of what is no mapping"))
	}
	return exec.AsValue(p.order.list(m, pair))
}

func pair(name string, value any) any { return []any{name, value} }

// list has an element for each member.
func (o orders) list(m map[string]any, element func(name string, value any) any) []any {
	out := []any{}
	for _, k := range o.keys(m) {
		out = append(out, element(k, m[k]))
	}
	return out
}

// textMethods are the engine's, with a replace that needs no count, and without those that
// make texts as long as one likes.
func textMethods() *exec.MethodSet[string] {
	methods := map[string]exec.Method[string]{
		"replace": func(s string, _ *exec.Value, args *exec.VarArgs) (any, error) {
			count := -1
			switch a := args.Args; {
			case len(a) < 2 || len(a) > 3:
				return nil, errors.New("replace takes two texts and a count")
			case len(a) == 3:
				count = a[2].Integer()
			}
			return strings.Replace(s, args.Args[0].String(), args.Args[1].String(), count), nil
		},
	}
	for _, name := range []string{
		"capitalize", "capwords", "casefold", "count", "encode", "endswith", "find", "format", "format_map", "isalnum",
		"isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper",
		"join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rpartition", "rsplit", "rstrip",
		"split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
	} {
		if m, ok := builtins.Methods.Str.Get(name); ok {
			methods[name] = m
		}
	}
	return exec.NewMethodSet(methods)
}

// dictMethods are the engine's, but with members in their order. Methods are given a copy
// of the map, beside the value itself.
func (p *program) dictMethods() *exec.MethodSet[map[string]any] {
	each := func(element func(name string, value any) any) exec.Method[map[string]any] {
		return func(m map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			if original, ok := self.Interface().(map[string]any); ok {
				m = original
			}
			return p.order.list(m, element), nil
		}
	}
	methods := map[string]exec.Method[map[string]any]{
		"keys":   each(func(name string, _ any) any { return name }),
		"values": each(func(_ string, value any) any { return value }),
		"items":  each(pair),
	}
	for _, name := range []string{"get", "pop", "setdefault", "update", "copy"} {
		if m, ok := builtins.Methods.Dict.Get(name); ok {
			methods[name] = m
		}
	}
	return exec.NewMethodSet(methods)
}
