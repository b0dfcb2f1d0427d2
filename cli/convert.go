package cli

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lorikeet/adapters"
	"lorikeet/backend/engine"
	"lorikeet/convert"
)

// convertCommand turns what Hugging Face's libraries save into GGUF.
func convertCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "convert",
		Short: "Turn Hugging Face bases and PEFT adapters into GGUF",
	}
	c.AddCommand(convertBaseCommand(), convertAdapterCommand())
	return c
}

func convertBaseCommand() *cobra.Command {
	var o convert.Options
	var out string
	c := &cobra.Command{
		Use:   "base DIR",
		Short: "Turn a base (config.json, *.safetensors, tokenizer) into GGUF",
		Long: "Turn a base, as transformers saves it (config.json, *.safetensors, tokenizer), into GGUF.\n\n" +
			"Nothing is quantized: llama.cpp's llama-quantize does that with the result.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, done, err := openSaved(args[0])
			if err != nil {
				return fmt.Errorf("convert %s: %w", args[0], err)
			}
			defer done()
			o.Progress = progress(cmd.ErrOrStderr())
			s, err := convert.Base(cmd.Context(), dir, out, o)
			if err != nil {
				return fmt.Errorf("convert %s: %w", args[0], err)
			}
			for _, note := range s.Notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", note)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s in %s, %s\n", out, s.Architecture, count(s.Tensors, "tensor"), strings.Join(s.Types, " and "), size(s.Bytes))
			return nil
		},
	}
	outputFlags(c, &out, &o)
	c.Flags().StringVar(&o.Type, "type", "", "of the matrices: f32, f16 or bf16 (as they are stored)")
	return c
}

func convertAdapterCommand() *cobra.Command {
	var o convert.Options
	var out, base string
	c := &cobra.Command{
		Use:   "adapter DIR",
		Short: "Turn a PEFT adapter into llama.cpp's adapter format",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Whatever llama.cpp can adapt, whether it is served or not.
			info, err := adapters.ReadBase(base, append([]string{"output"}, engine.DefaultTargets...))
			if err != nil {
				return fmt.Errorf("base %s: %w", base, err)
			}
			dir, done, err := openSaved(args[0])
			if err != nil {
				return fmt.Errorf("convert %s: %w", args[0], err)
			}
			defer done()
			o.Progress = progress(cmd.ErrOrStderr())
			s, err := convert.Adapter(cmd.Context(), dir, info, out, o)
			if err != nil {
				return fmt.Errorf("convert %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: an adapter for %s, %s, rank %d, %s\n", out, s.Architecture, count(s.Tensors, "tensor"), s.Rank, size(s.Bytes))
			return nil
		},
	}
	outputFlags(c, &out, &o)
	c.Flags().StringVar(&base, "base", "", "the base in GGUF that the adapter was made for")
	_ = c.MarkFlagRequired("base") // it is there
	return c
}

func outputFlags(c *cobra.Command, out *string, o *convert.Options) {
	c.Flags().StringVarP(out, "output", "o", "", "the file to write")
	c.Flags().StringVar(&o.Name, "name", "", "how it is called within the file (as the file)")
	c.Flags().BoolVar(&o.Force, "force", false, "write over a file that exists")
	_ = c.MarkFlagRequired("output") // it is there
}

// openSaved opens the directory of a base or an adapter, and no link leads out of it. In
// Hugging Face's cache files are links: there, none leads out of the folder of all revisions.
func openSaved(dir string) (fs.FS, func(), error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	root, within := dir, "."
	if snapshots := filepath.Dir(dir); filepath.Base(snapshots) == "snapshots" {
		root, within = filepath.Dir(snapshots), "snapshots/"+filepath.Base(dir)
	}
	folder, err := adapters.OpenFolder(root)
	if err != nil {
		return nil, nil, err
	}
	sub, err := fs.Sub(folder.FS, within)
	if err != nil {
		folder.Close()
		return nil, nil, err
	}
	return sub, folder.Close, nil
}

// progress writes a line for each tenth.
func progress(w io.Writer) func(written, total int64) {
	tenths := int64(0)
	return func(written, total int64) {
		if now := 10 * written / total; now > tenths && now < 10 {
			tenths = now
			fmt.Fprintf(w, "%3d%%  %s of %s\n", 10*now, size(written), size(total))
		}
	}
}
