package cli

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"lorikeet/bench"
)

// benchCommand measures the program itself, on a base of random weights.
func benchCommand(version string) *cobra.Command {
	o := bench.Options{Version: version}
	var file string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure speed on this machine, against the targets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stderr := cmd.ErrOrStderr()
			slog.SetDefault(slog.New(tint.NewTextHandler(stderr, &tint.Options{Level: slog.LevelWarn})))
			start := time.Now()
			o.Progress = func(line string) { fmt.Fprintf(stderr, "%6.1fs  %s\n", time.Since(start).Seconds(), line) }
			report, err := bench.Run(cmd.Context(), o)
			if report == nil {
				return fmt.Errorf("bench: %w", err)
			}
			fmt.Fprintln(stderr)
			report.Write(cmd.OutOrStdout())
			if err := writeJSON(file, report); err != nil {
				return fmt.Errorf("bench: %w", err)
			}
			if err != nil {
				return fmt.Errorf("bench: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Dir, "dir", "build/bench", "where base and adapters are made and kept, 0.9 GB")
	c.Flags().StringArrayVar(&o.Scenarios, "scenario", nil, "what to measure, again for another; all but decode if none ("+strings.Join(bench.Names(), ", ")+")")
	c.Flags().BoolVar(&o.Quick, "quick", false, "a look in a few minutes; too short for figures to rely on")
	c.Flags().StringVar(&o.Size, "size", "200m", "of the base: 200m, or 7b, which takes 15 GB of disk and a GPU")
	c.Flags().StringVar(&o.Type, "type", "f16", "of the base's matrices: f16, q8_0, q4_0")
	c.Flags().Float64Var(&o.Bandwidth, "bandwidth", 0, "of the memory that the base lies in, GB/s: what share of it decoding reaches is told")
	c.Flags().IntVar(&o.Threads, "threads", 0, "of llama.cpp; 0 means all CPUs")
	c.Flags().StringVar(&file, "json", "build/bench/results.json", "where the figures are written")
	return c
}

func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}
