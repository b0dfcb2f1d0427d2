package chat

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reference is a conversation as transformers renders it; testdata/make.py writes them.
type reference struct {
	Template     string
	Conversation string
	Messages     []struct {
		Role, Content, Name string
		ToolCallID          string `json:"tool_call_id"`
		ToolCalls           []struct {
			ID       string
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		} `json:"tool_calls"`
	}
	Tools []struct {
		Function struct {
			Name, Description string
			Parameters        json.RawMessage
		}
	}
	Extra    map[string]any
	Continue bool
	Rendered *string
	Error    string
}

func (r *reference) conversation() Conversation {
	c := Conversation{Continue: r.Continue, Extra: r.Extra}
	for _, m := range r.Messages {
		out := Message{Role: m.Role, Content: m.Content, Name: m.Name, ToolCallID: m.ToolCallID}
		for _, call := range m.ToolCalls {
			out.ToolCalls = append(out.ToolCalls, ToolCall{call.ID, call.Function.Name, string(call.Function.Arguments)})
		}
		c.Messages = append(c.Messages, out)
	}
	for _, t := range r.Tools {
		c.Tools = append(c.Tools, Tool{Name: t.Function.Name, Description: t.Function.Description, Parameters: t.Function.Parameters})
	}
	return c
}

func compile(t testing.TB, source string) *Template {
	t.Helper()
	tm, err := Compile(source, Options{BOS: "<s>", EOS: "</s>"})
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

func TestRenderedAsTransformersDoes(t *testing.T) {
	data, err := os.ReadFile("testdata/rendered.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []reference
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		t.Run(r.Template+"/"+r.Conversation, func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join("testdata", r.Template))
			if err != nil {
				t.Fatal(err)
			}
			tm := compile(t, string(source))
			if r.Tools != nil && !tm.TakesTools() {
				t.Skip("the template knows no tools; Render describes them, transformers does not")
			}
			got, err := tm.Render(t.Context(), r.conversation())
			var refused *TemplateError
			switch {
			case r.Rendered == nil && (!errors.As(err, &refused) || refused.Reason != r.Error):
				t.Errorf("%v instead of the error %q", err, r.Error)
			case r.Rendered != nil && (err != nil || got != *r.Rendered):
				t.Errorf("%v\n%s\ninstead of\n%s", err, got, *r.Rendered)
			}
		})
	}
}

// What a message ends with may occur in what the template writes after it.
func TestContinue(t *testing.T) {
	tm := compile(t, `{% for m in messages %}<|im_start|>{{ m.role }}|{{ m.content }}<|im_end|>{% endfor %}`)
	for _, said := range []string{"end", "i", "d ", "<|im_end|>"} {
		got, err := tm.Render(t.Context(), Conversation{Continue: true, Messages: []Message{{Role: "user", Content: "x"}, {Role: "assistant", Content: said}}})
		if want := "<|im_start|>user|x<|im_end|><|im_start|>assistant|" + said; err != nil || got != want {
			t.Errorf("%q: %q, %v", said, got, err)
		}
	}
	var refused *TemplateError
	if _, err := compile(t, "nothing").Render(t.Context(), Conversation{Continue: true, Messages: []Message{{Role: "assistant", Content: "x"}}}); !errors.As(err, &refused) {
		t.Error(err)
	}
}

// A base's template may know no tools, or no system message.
func TestToolsAreDescribed(t *testing.T) {
	tool := []Tool{{Name: "clock", Description: "the time", Parameters: json.RawMessage(`{"type": "object", "z": 1, "a": 2}`)}}
	plain := `{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}`
	noSystem := `{% if messages[0].role == "system" %}{{ raise_exception("no system") }}{% endif %}` + plain
	for source, want := range map[string]string{plain: "[system]", noSystem: "[user]hello\n\n"} {
		got, err := compile(t, source).Render(t.Context(), Conversation{Messages: []Message{{Role: "user", Content: "hello"}}, Tools: tool})
		const line = `{"type": "function", "function": {"name": "clock", "description": "the time", "parameters": {"type": "object", "z": 1, "a": 2}}}` + "\n"
		if err != nil || !strings.HasPrefix(got, want) || !strings.Contains(got, line) || !strings.Contains(got, "hello") || strings.Count(got, "[user]") != 1 {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

func TestBadTemplates(t *testing.T) {
	for what, source := range map[string]string{
		"syntax":          "{% if %}",
		"unknown":         "{{ x | nofilter }}{% nothing %}",
		"open":            "{% for m in messages %}",
		"another file":    `{% include "/etc/passwd" %}`,
		"inherits":        `{% extends "/etc/passwd" %}`,
		"imports":         `{% from "/etc/passwd" import x %}`,
		"brackets":        "{{ " + strings.Repeat("(", 300) + "1" + strings.Repeat(")", 300) + " }}",
		"too large":       strings.Repeat("x", MaxSource+1),
		"recursive loops": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
	} {
		if _, err := Compile(source, Options{}); err == nil || len(err.Error()) > 400 {
			t.Errorf("%s: %.500v", what, err)
		}
	}
}

// Whatever a template does, rendering ends, with an error that says why.
func TestRunawayTemplates(t *testing.T) {
	for what, source := range map[string]string{
		"recursion":    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"two macros":   "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
		"range":        "{% for i in range(10**12) %}{% endfor %}",
		"loops":        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
		"output":       "{% for i in range(99999) %}{% for j in range(99999) %}" + strings.Repeat("x", 1000) + "{% endfor %}{% endfor %}",
		"raises":       "{{ raise_exception('too \"odd\"') }}",
		"no function":  "{{ messages[0].nothing() }}",
		"wrong values": "{{ messages['a'].b.c[3] + 5 }}{{ 5 | items }}",
	} {
		tm := compile(t, source)
		_, err := tm.Render(t.Context(), Conversation{Messages: []Message{{Role: "user", Content: "x"}}})
		var refused *TemplateError
		if what == "wrong values" && err == nil {
			continue // undefined things are nothing, in this engine
		}
		if !errors.As(err, &refused) || len(refused.Reason) > 300 {
			t.Errorf("%s: %.500v", what, err)
		}
		if what == "raises" && refused.Reason != `too "odd"` {
			t.Errorf("%s: %q", what, refused.Reason)
		}
	}
}

func TestCancelledRendering(t *testing.T) {
	tm := compile(t, "{% for m in messages %}{{ m.content }}{% endfor %}")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tm.Render(ctx, Conversation{Messages: []Message{{Role: "user", Content: "x"}}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Renderings beside one another do not share anything.
func TestConcurrentRendering(t *testing.T) {
	tm := compile(t, `{% set ns = namespace(s="") %}{% for m in messages %}{% set ns.s = ns.s + m.content %}{% endfor %}{{ ns.s }}{{ tools | tojson }}`)
	done := make(chan error)
	for i := range 8 {
		go func() {
			text := strings.Repeat(string(rune('a'+i)), 10)
			for range 50 {
				got, err := tm.Render(t.Context(), Conversation{Messages: []Message{{Content: text}, {Content: text}}, Tools: []Tool{{Name: text}}})
				if want := text + text + `[{"type": "function", "function": {"name": "` + text + `"}}]`; err == nil && got != want {
					err = errors.New(got)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2026, 1, 5, 9, 7, 3, 0, time.UTC)
	for format, want := range map[string]string{
		"%d %b %Y": "05 Jan 2026", "%-d %B %y": "5 January 26", "%Y-%m-%d": "2026-01-05", "%H:%M:%S %p": "09:07:03 AM", "%A %a %j": "Monday Mon 005", "100%% %q %": "100% %q %",
	} {
		if got := strftime(at, format); got != want {
			t.Errorf("%s: %q instead of %q", format, got, want)
		}
	}
}
