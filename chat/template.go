package chat

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// Limits of templates and of what they write.
const (
	MaxSource  = 128 << 10 // bytes of a template
	MaxPrompt  = 16 << 20  // bytes of what it writes
	maxTime    = time.Second
	maxNesting = 100 // of brackets in a template, of macros that call one another, and of JSON
)

// Options are what a base's templates refer to.
type Options struct {
	BOS, EOS string // names of the tokens; "" if the base has none
}

// Template is a base's chat template. It is safe for concurrent use.
type Template struct {
	source     string
	options    Options
	form       *form
	takesTools bool
	systemless bool // it refuses a system message

	programs sync.Pool // of *program: a program renders for one at a time
}

// TemplateError says that a template refuses a conversation, or fails at it. The reason
// is the template's own, if it gives one.
type TemplateError struct{ Reason string }

func (e *TemplateError) Error() string { return e.Reason }

// Compile reads a Jinja template, as Hugging Face's checkpoints and GGUF files have it. It
// is the operator's choice like the weights beside it: what it does with what clients send
// is bounded, but not every way to waste memory on its own.
func Compile(source string, o Options) (*Template, error) {
	if len(source) > MaxSource {
		return nil, fmt.Errorf("chat template: %d bytes are over the limit of %d", len(source), MaxSource)
	}
	if deepest(source) > maxNesting {
		return nil, fmt.Errorf("chat template: more than %d brackets in one another", maxNesting)
	}
	t := &Template{source: source, options: o, form: formOf(source)}
	for _, tag := range tags.FindAllString(source, -1) {
		t.takesTools = t.takesTools || tools.MatchString(tag)
	}
	first, err := t.compile()
	if err != nil {
		return nil, err
	}
	t.programs.Put(first)
	hello := []Message{{Role: "system", Content: "Hi"}, {Role: "user", Content: "Hello"}}
	_, err = t.Render(context.Background(), Conversation{Messages: hello})
	t.systemless = err != nil
	return t, nil
}

var (
	tags  = regexp.MustCompile(`(?s)\{[{%].*?[%}]\}`)
	tools = regexp.MustCompile(`\btools\b`)
)

// deepest is how many brackets stand in one another: the engine's parser recurses.
func deepest(source string) (most int) {
	depth := 0
	for _, c := range source {
		switch c {
		case '(', '[', '{':
			depth++
			most = max(most, depth)
		case ')', ']', '}':
			depth = max(0, depth-1)
		}
	}
	return most
}

// TakesTools tells whether the template describes tools to the model. If not, Render does.
func (t *Template) TakesTools() bool { return t.takesTools }

// Render writes the prompt for a conversation. Errors are *TemplateError and the
// context's.
func (t *Template) Render(ctx context.Context, c Conversation) (string, error) {
	if len(c.Tools) > 0 && !t.takesTools {
		var err error
		if c.Messages, err = t.describeTools(ctx, c.Messages, c.Tools); err != nil {
			return "", err
		}
	}
	p, ok := t.programs.Get().(*program)
	if !ok {
		var err error
		if p, err = t.compile(); err != nil {
			return "", err
		}
	}
	defer t.programs.Put(p)
	if !c.Continue || len(c.Messages) == 0 {
		return p.run(ctx, t.variables(p, c))
	}
	c.Messages = slices.Clone(c.Messages)
	c.Messages[len(c.Messages)-1].Content += mark
	text, err := p.run(ctx, t.variables(p, c))
	if err != nil {
		return "", err
	}
	return cut(text)
}

// mark stands where an answer is to go on, until it is cut off there. No text has it; the
// blank at its end shows whether the template keeps blanks.
const mark = "\uE000here the answer goes on\uE001 "

func cut(text string) (string, error) {
	bare := strings.TrimRight(mark, " ")
	at := strings.LastIndex(text, bare)
	switch {
	case at < 0:
		return "", &TemplateError{"the template leaves out the last message, so an answer can't go on with it"}
	case strings.HasPrefix(text[at:], mark):
		return text[:at], nil
	}
	return strings.TrimRight(text[:at], blanks), nil
}

// program is a compiled template with what one rendering needs.
type program struct {
	template *exec.Template
	order    orders
	limits   *limits
}

var (
	generation = regexp.MustCompile(`^\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}$`)
	fromEnd    = regexp.MustCompile(`([\w)\]'"])\[\s*-\s*(\d+)\s*\]`)
)

// rewritten is a tag as the engine understands it: it does not know the marks that
// transformers has for training, and finds no element that is as far from the end as the
// list is long.
func rewritten(tag string) string {
	if m := generation.FindStringSubmatch(tag); m != nil {
		if m[2] == "" {
			return "{%" + m[1] + " if true " + m[3] + "%}"
		}
		return "{%" + m[1] + " endif " + m[3] + "%}"
	}
	return fromEnd.ReplaceAllString(tag, "${1}[-$2:][0]")
}

func (t *Template) compile() (p *program, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("chat template: %v", r)
		}
	}()
	loader, err := loaders.NewMemoryLoader(map[string]string{"/chat": tags.ReplaceAllStringFunc(t.source, rewritten)})
	if err != nil {
		return nil, err
	}
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true // as transformers sets them
	p = &program{order: orders{}, limits: &limits{}}
	p.template, err = exec.NewTemplate("/chat", settings, loader, p.environment())
	if err != nil {
		return nil, fmt.Errorf("chat template: %s", brief(err))
	}
	return p, nil
}

// run renders within the limits.
func (p *program) run(ctx context.Context, variables map[string]any) (text string, err error) {
	defer func() {
		if r := recover(); r != nil { // the engine's, at templates that it did not expect
			err = &TemplateError{fmt.Sprintf("the template failed: %.200v", r)}
		}
		clear(p.order)
	}()
	p.limits.start(ctx)
	err = p.template.Execute(p.limits, exec.NewContext(variables))
	switch {
	case p.limits.refused != nil:
		return "", p.limits.refused
	case err != nil:
		return "", &TemplateError{"the template failed: " + brief(err)}
	}
	return p.limits.String(), nil
}

// brief is the innermost reason of the engine's error, which carries whole expressions.
func brief(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	const limit = 200
	if s := err.Error(); len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return err.Error()
}

// limits is what a template writes to. It ends the rendering when it has taken too long
// or has written too much.
type limits struct {
	strings.Builder
	ctx      context.Context
	deadline time.Time
	refused  error // why the rendering is to end
	macros   int   // that have called one another
}

func (l *limits) start(ctx context.Context) {
	l.Reset()
	l.ctx, l.deadline, l.refused, l.macros = ctx, time.Now().Add(maxTime), nil, 0
}

// check is called wherever a template may go round.
func (l *limits) check() error {
	switch {
	case l.refused != nil:
	case l.ctx.Err() != nil:
		l.refused = l.ctx.Err()
	case time.Now().After(l.deadline):
		l.refused = &TemplateError{fmt.Sprintf("the template took longer than %s", maxTime)}
	}
	return l.refused
}

func (l *limits) Write(b []byte) (int, error) { return l.WriteString(string(b)) }

func (l *limits) WriteString(s string) (int, error) {
	if err := l.allow(l.Len() + len(s)); err != nil {
		return 0, err
	}
	return l.Builder.WriteString(s)
}

// allow is check for who is about to have so many bytes of a prompt, or of a part of it.
func (l *limits) allow(bytes int) error {
	if l.check() == nil && bytes > MaxPrompt {
		l.refused = &TemplateError{fmt.Sprintf("the prompt is over the limit of %d bytes", MaxPrompt)}
	}
	return l.refused
}
