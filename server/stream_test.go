package server

import (
	"bytes"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"lorikeet/api"
)

// joined is a stream put together, checked on the way: what the same request gives
// without stream.
func joined(t *testing.T, chunks []answer, choices int, usage bool) ([]answered, *api.Usage) {
	t.Helper()
	out := make([]answered, choices)
	var total *api.Usage
	for i, c := range chunks {
		switch {
		case c.ID != chunks[0].ID || !strings.HasPrefix(c.ID, "cmpl-") || c.Object != "text_completion" || c.Created != chunks[0].Created || c.SystemFingerprint == "":
			t.Fatalf("chunk %d: %+v", i, c)
		case len(c.Choices) == 0 && usage && i == len(chunks)-1:
			total = c.Usage
			continue
		case len(c.Choices) != 1 || c.Usage != nil:
			t.Fatalf("chunk %d has %d choices and usage %v", i, len(c.Choices), c.Usage)
		}
		p := c.Choices[0]
		o := &out[p.Index]
		if o.FinishReason != nil {
			t.Fatalf("chunk %d: choice %d goes on behind its end", i, p.Index)
		}
		if !utf8.ValidString(p.Text) || strings.Contains(p.Text, "\uFFFD") {
			t.Fatalf("chunk %d cuts a character: %q", i, p.Text)
		}
		o.Index, o.FinishReason = p.Index, p.FinishReason
		o.Text += p.Text
		if p.Logprobs != nil {
			if o.Logprobs == nil {
				o.Logprobs = &logprobs{[]string{}, []*float64{}, []map[string]float64{}, []int{}}
			}
			o.Logprobs.Tokens = append(o.Logprobs.Tokens, p.Logprobs.Tokens...)
			o.Logprobs.TokenLogprobs = append(o.Logprobs.TokenLogprobs, p.Logprobs.TokenLogprobs...)
			o.Logprobs.TopLogprobs = append(o.Logprobs.TopLogprobs, p.Logprobs.TopLogprobs...)
			o.Logprobs.TextOffset = append(o.Logprobs.TextOffset, p.Logprobs.TextOffset...)
		}
	}
	for i, o := range out {
		if o.FinishReason == nil {
			t.Errorf("choice %d has no finish_reason", i)
		}
	}
	return out, total
}

// A stream says piece by piece what the whole answer says.
func TestStreamEqualsAnswer(t *testing.T) {
	s := serve(t)
	plain := body{"model": base, "prompt": "abc", "max_tokens": 40, "seed": 11}
	text := s.complete(plain).Choices[0].Text
	tests := map[string]body{
		"plain":             plain,
		"greedy":            plain.plus(body{"temperature": 0}),
		"adapter":           plain.plus(body{"model": base + ":gold"}),
		"one token":         plain.plus(body{"max_tokens": 1}),
		"no tokens":         plain.plus(body{"max_tokens": 0}),
		"echo only":         plain.plus(body{"max_tokens": 0, "echo": true, "logprobs": 1}),
		"choices":           plain.plus(body{"prompt": []string{"abc", "dé", "f"}, "n": 4, "echo": true}),
		"choices, logprobs": plain.plus(body{"prompt": [][]int{{1, 2}, {3}}, "n": 3, "logprobs": 2}),
		"stop":              plain.plus(body{"stop": text[10:13], "logprobs": 1}),
		"stop held back":    plain.plus(body{"stop": []string{text[3:6] + "\x00", text[20:24]}, "logprobs": 1, "echo": true}),
		"stop at once":      plain.plus(body{"stop": text[:1], "logprobs": 1}),
		"characters":        plain.plus(body{"prompt": "né 🦜 né", "echo": true, "logprobs": 3}),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			want := s.complete(b)
			for i, c := range want.Choices {
				if c.Index != i {
					t.Errorf("choice %d is called %d", i, c.Index)
				}
				checkOffsets(t, c)
			}
			got, usage := joined(t, s.stream(b), len(want.Choices), false)
			if usage != nil {
				t.Error("usage that nobody asked for")
			}
			withUsage := b.plus(body{"stream_options": body{"include_usage": true}})
			again, usage := joined(t, s.stream(withUsage), len(want.Choices), true)
			if !reflect.DeepEqual(got, want.Choices) || !reflect.DeepEqual(again, want.Choices) {
				t.Errorf("stream %s\nwhole  %s", show(got), show(want.Choices))
			}
			if !reflect.DeepEqual(usage, want.Usage) {
				t.Errorf("usage %+v in the stream, %+v", usage, want.Usage)
			}
		})
	}
}

func show(choices []answered) string {
	var b strings.Builder
	for _, c := range choices {
		fmt.Fprintf(&b, "%q %v %+v; ", c.Text, c.FinishReason != nil, c.Logprobs)
	}
	return b.String()
}

// checkOffsets checks that the lists are parallel and that every token that is
// whole characters stands in the text where its offset says.
func checkOffsets(t *testing.T, c answered) {
	t.Helper()
	l := c.Logprobs
	if l == nil {
		return
	}
	n := len(l.Tokens)
	if len(l.TokenLogprobs) != n || len(l.TopLogprobs) != n || len(l.TextOffset) != n {
		t.Fatalf("lists of different lengths: %+v", l)
	}
	text := []rune(c.Text)
	for i, token := range l.Tokens {
		if strings.HasPrefix(token, "bytes:") || strings.HasPrefix(token, "<") {
			continue
		}
		if at := l.TextOffset[i]; at > len(text) || !strings.HasPrefix(string(text[at:]), token) {
			t.Errorf("token %q is not at %d of %q", token, at, c.Text)
		}
	}
}

// Token arrays may cut characters; offsets count what is shown.
func TestOffsetsOfBrokenCharacters(t *testing.T) {
	s := serve(t)
	tests := []struct {
		prompt  []int
		text    string
		offsets []int
	}{
		{[]int{0x9c, 'a', 'b'}, "\uFFFDab", []int{0, 1, 2}},
		{[]int{'a', 0x9c, 'b'}, "a\uFFFDb", []int{0, 1, 2}},
		{[]int{0xf0, 0x9f, 'a'}, "\uFFFD\uFFFDa", []int{0, 0, 2}},
		{[]int{0xc3, 0xc3, 0xa9, 'a'}, "\uFFFDéa", []int{0, 1, 1, 2}},
		{[]int{0xff, 0xff, 'a'}, "\uFFFD\uFFFDa", []int{0, 1, 2}},
		{[]int{0xf0, 0x9f, 0xa6, 0x9c, 'a'}, "🦜a", []int{0, 0, 0, 0, 1}},
		{[]int{256, 'a', 257, 'b'}, "ab", []int{0, 0, 1, 1}},
	}
	for _, tt := range tests {
		c := s.complete(body{"model": base, "prompt": tt.prompt, "max_tokens": 0, "echo": true, "logprobs": 0}).Choices[0]
		if c.Text != tt.text || !reflect.DeepEqual(c.Logprobs.TextOffset, tt.offsets) {
			t.Errorf("%x: %q, offsets %v; want %q, %v", tt.prompt, c.Text, c.Logprobs.TextOffset, tt.text, tt.offsets)
		}
	}
}

// What middleboxes and clients look at beside the events.
func TestStreamHeaders(t *testing.T) {
	s := serve(t)
	r := s.post(body{"model": base, "prompt": "abc", "stream": true})
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no", "Cache-Control": "no-cache", "Content-Encoding": "", "Content-Length": "",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.status != http.StatusOK || bytes.Contains(r.body, []byte(`"error"`)) {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	events(t, r.body)
}

// usage is absent from chunks, or null until the last, as was asked.
func TestStreamUsageMember(t *testing.T) {
	s := serve(t)
	b := body{"model": base, "prompt": "abc", "max_tokens": 3, "stream": true}
	for _, e := range events(t, s.post(b).body) {
		if strings.Contains(e, `"usage"`) {
			t.Errorf("usage in %s", e)
		}
	}
	all := events(t, s.post(b.plus(body{"stream_options": body{"include_usage": true}})).body)
	for i, e := range all {
		last := i == len(all)-1
		if strings.Contains(e, `"usage":null`) == last || strings.Contains(e, `"choices":[]`) != last || !strings.Contains(e, `"usage":`) {
			t.Errorf("event %d of %d: %s", i, len(all), e)
		}
	}
}

// Scale 0 is the base, to the last digit.
func TestScaleZero(t *testing.T) {
	s := serve(t)
	b := body{"model": base, "prompt": "abc", "max_tokens": 30, "seed": 3, "logprobs": 4, "echo": true}
	want := s.complete(b)
	zero := []body{{"name": "blue", "scale": 0}}
	for _, model := range []string{base, base + ":blue", "blue"} {
		got := s.complete(b.plus(body{"model": model, "lora": zero}))
		if !reflect.DeepEqual(got.Choices, want.Choices) || !reflect.DeepEqual(got.Usage, want.Usage) {
			t.Errorf("%s at scale 0: %s\nbase: %s", model, show(got.Choices), show(want.Choices))
		}
	}
	if got := s.complete(b.plus(body{"model": "blue"})); reflect.DeepEqual(got.Choices, want.Choices) {
		t.Error("the adapter changes nothing")
	}
}
