package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"lorikeet/adapters"
	"lorikeet/backend"
	"lorikeet/backend/engine"
)

// inspectCommand looks at an adapter's files, without a server.
func inspectCommand() *cobra.Command {
	var base string
	var targets []string
	c := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Tell what a PEFT directory or a .gguf adapter is, and whether it can be served",
		Long: "Tell what a PEFT directory or a .gguf adapter is, and whether it can be served.\n\n" +
			"No server is asked. Without --base, what depends on the base is not checked. The exit status is 1 if the adapter can't be served.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info *backend.ModelInfo
			if base != "" {
				var err error
				if info, err = adapters.ReadBase(base, targets); err != nil {
					return fmt.Errorf("base %s: %w", base, err)
				}
			}
			i, err := adapters.Inspect(args[0], info)
			if err != nil {
				return fmt.Errorf("inspect %s: %w", args[0], err)
			}
			out := cmd.OutOrStdout()
			writeInspection(out, paintFor(out), i, base)
			if n := len(i.Refusals); n > 0 {
				return fmt.Errorf("%s can't be served (%s)", args[0], count(n, "reason"))
			}
			return nil
		},
	}
	c.Flags().StringVar(&base, "base", "", "the base in GGUF that the adapter is to fit")
	c.Flags().StringSliceVar(&targets, "targets", engine.DefaultTargets, "matrices of the base that adapters may change, as its targets key has them")
	return c
}

// maxRefusals is how many reasons are shown; a wrong base has one for every tensor.
const maxRefusals = 20

func writeInspection(w io.Writer, p paint, i *adapters.Inspection, base string) {
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(w, "%s %s\n", p(dim, fmt.Sprintf("%-13s", name)), text)
		}
	}
	line("format", i.Format)
	line("version", i.Version)
	line("made for", i.Base)
	line("architecture", i.Architecture)
	if i.MaxRank > 0 {
		line("rank", numberRange(float64(i.MinRank), float64(i.MaxRank)))
		line("alpha", alpha(i))
	}
	line("targets", strings.Join(i.Targets, " "))
	line("layers", ranges(i.Layers))
	if i.Tensors > 0 {
		line("tensors", fmt.Sprintf("%d in %s", i.Tensors, strings.Join(i.Types, ", ")))
	}
	line("size", fmt.Sprintf("%s (%d bytes)", size(i.Bytes), i.Bytes))
	if i.Invocation != nil {
		line("activated by", "tokens "+strings.Trim(fmt.Sprint(i.Invocation), "[]"))
	}
	fmt.Fprintln(w)
	switch {
	case len(i.Refusals) > 0:
		fmt.Fprintln(w, p(red, "It can't be served:"))
		for _, err := range i.Refusals[:min(len(i.Refusals), maxRefusals)] {
			fmt.Fprintf(w, "  %v\n", err)
		}
		if more := len(i.Refusals) - maxRefusals; more > 0 {
			fmt.Fprintf(w, "  … and %s more\n", count(more, "reason"))
		}
	case base == "":
		fmt.Fprintln(w, "Nothing is wrong with it by itself. Whether it fits a base, --base tells.")
	default:
		fmt.Fprintf(w, "It fits %s.\n", base)
	}
}

// alpha is what the files say, and the scale that follows from it.
func alpha(i *adapters.Inspection) string {
	text := fmt.Sprintf("%g", i.Alpha)
	if i.RSLoRA {
		text += " with rsLoRA"
	}
	return text + ", so the scale is " + numberRange(i.MinScale, i.MaxScale)
}

func numberRange(low, high float64) string {
	if low == high {
		return fmt.Sprintf("%.4g", high)
	}
	return fmt.Sprintf("%.4g to %.4g", low, high)
}

// ranges writes sorted numbers as "0-3 7".
func ranges(numbers []int) string {
	var out []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		text := fmt.Sprint(numbers[i])
		if j > i {
			text += fmt.Sprintf("-%d", numbers[j])
		}
		out = append(out, text)
		i = j + 1
	}
	return strings.Join(out, " ")
}
