package chat

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	statements "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
)

// maxRange is how many numbers a template's range may have.
const maxRange = 100_000

// environment is the engine's language with what transformers adds to Jinja, and without
// what reaches beyond the template.
func (p *program) environment() *exec.Environment {
	globals := exec.EmptyContext().Update(builtins.GlobalFunctions).Update(builtins.GlobalVariables)
	globals.Set("raise_exception", func(_ *exec.Evaluator, args *exec.VarArgs) *exec.Value {
		reason := "the template refuses the conversation"
		if len(args.Args) > 0 {
			reason = args.Args[0].String()
		}
		p.limits.refused = &TemplateError{reason}
		return exec.AsValue(p.limits.refused)
	})
	globals.Set("strftime_now", func(_ *exec.Evaluator, args *exec.VarArgs) *exec.Value {
		if len(args.Args) != 1 {
			return exec.AsValue(errors.New("strftime_now takes a format"))
		}
		return exec.AsValue(strftime(time.Now(), args.Args[0].String()))
	})
	globals.Set("range", numbers)
	globals.Set("lipsum", nil)
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	own := exec.NewFilterSet(map[string]exec.FilterFunction{"tojson": p.toJSON, "items": p.items})
	filters.Update(own)
	methods := builtins.Methods
	methods.Dict, methods.Str = p.dictMethods(), textMethods()
	return &exec.Environment{
		Context: globals, Filters: filters, Tests: builtins.Tests, Methods: methods, ControlStructures: p.structures(),
	}
}

// structures are Jinja's statements, each looking at the limits before it runs; those
// that read other files, or go round without any, are left out.
func (p *program) structures() *exec.ControlStructureSet {
	guarded := map[string]parser.ControlStructureParser{}
	for _, name := range []string{"for", "if", "set", "with", "macro", "call", "filter", "raw", "do", "break", "continue"} {
		parse, ok := builtins.ControlStructures.Get(name)
		if !ok {
			continue
		}
		guarded[name] = func(outer, args *parser.Parser) (nodes.ControlStructure, error) {
			inner, err := parse(outer, args)
			if err != nil {
				return nil, err
			}
			if loop, ok := inner.(*statements.ForControlStructure); ok && loop.Recursive {
				return nil, errors.New("recursive loops are not served")
			}
			if run, ok := inner.(exec.ControlStructure); ok {
				return &guardedStructure{run, p.limits}, nil
			}
			return inner, nil
		}
	}
	return exec.NewControlStructureSet(guarded)
}

type guardedStructure struct {
	exec.ControlStructure
	limits *limits
}

func (g *guardedStructure) Execute(r *exec.Renderer, block *nodes.ControlStructureBlock) error {
	if err := g.limits.check(); err != nil {
		return err
	}
	if err := g.ControlStructure.Execute(r, block); err != nil {
		return err
	}
	if definition, ok := g.ControlStructure.(*statements.MacroControlStructure); ok {
		if v, _ := r.Environment.Context.Get(definition.Name); v != nil {
			r.Environment.Context.Set(definition.Name, g.limits.guard(v.(exec.Macro)))
		}
	}
	return nil
}

// guard bounds how deep a macro calls itself or others.
func (l *limits) guard(m exec.Macro) exec.Macro {
	return func(args *exec.VarArgs) *exec.Value {
		if l.check() == nil && l.macros >= maxNesting {
			l.refused = &TemplateError{fmt.Sprintf("the template's macros call one another more than %d deep", maxNesting)}
		}
		if l.refused != nil {
			return exec.AsValue(l.refused)
		}
		l.macros++
		defer func() { l.macros-- }()
		return m(args)
	}
}

// numbers is Python's range, of bounded length.
func numbers(_ *exec.Evaluator, args *exec.VarArgs) *exec.Value {
	bounds := []int{0, 0, 1}
	for _, a := range args.Args {
		if !a.IsInteger() {
			return exec.AsValue(errors.New("range takes integers"))
		}
	}
	switch a := args.Args; len(a) {
	case 1:
		bounds[1] = a[0].Integer()
	case 2, 3:
		for i := range a {
			bounds[i] = a[i].Integer()
		}
	default:
		return exec.AsValue(errors.New("range takes one to three integers"))
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return exec.AsValue(errors.New("range: the step is 0"))
	}
	out := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == maxRange {
			return exec.AsValue(fmt.Errorf("range of more than %d numbers", maxRange))
		}
		out = append(out, i)
	}
	return exec.AsValue(out)
}

// directives of strftime, as Go's layouts have them.
var directives = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'S': "05",
	'y': "06", 'Y': "2006", 'z': "-0700", 'Z': "MST",
}

func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		bare := format[i] == '-' && i+1 < len(format) // without the leading zero
		if bare {
			i++
		}
		layout, known := directives[format[i]]
		switch {
		case known && bare:
			s := strings.TrimLeft(t.Format(layout), "0")
			b.WriteString(cmp.Or(s, "0"))
		case known:
			b.WriteString(t.Format(layout))
		case format[i] == '%':
			b.WriteByte('%')
		default:
			b.WriteString(format[i-1 : i+1])
		}
	}
	return b.String()
}
