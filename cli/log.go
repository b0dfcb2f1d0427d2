package cli

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"

	"lorikeet/config"
)

// setLog makes slog write to w as configured. Level and format were validated.
func setLog(w io.Writer, c config.Log) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level))
	if c.Format == "json" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})))
		return
	}
	f, ok := w.(*os.File)
	slog.SetDefault(slog.New(tint.NewTextHandler(w, &tint.Options{
		Level: level, TimeFormat: time.TimeOnly, NoColor: !ok || !isatty.IsTerminal(f.Fd()) || os.Getenv("NO_COLOR") != "",
	})))
}
