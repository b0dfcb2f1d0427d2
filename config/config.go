// Package config reads Lorikeet's configuration: a file in YAML, environment
// variables and flags, in rising precedence, over defaults. It is the only importer
// of viper; what it gives is a plain [Config] that was validated.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// Config is everything that can be configured.
type Config struct {
	Server   Server
	Log      Log
	Adapters Adapters
	Models   []Model // none: the demo
}

// Server is the HTTP side.
type Server struct {
	Addr            string        // host:port
	MaxBodyBytes    int64         `mapstructure:"max_body_bytes"`
	BodyTimeout     time.Duration `mapstructure:"body_timeout"`
	ShutdownTimeout time.Duration `mapstructure:"shutdown_timeout"`
}

// Log is what is written to standard error.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Adapters are those of all models that name no folder of their own.
type Adapters struct {
	Dir         string
	LoadTimeout time.Duration `mapstructure:"load_timeout"`
	HostBytes   int64         `mapstructure:"host_bytes"` // for each base
}

// Model is one base. Zeros mean the engine's defaults.
type Model struct {
	Name        string
	Path        string
	Context     int
	Sequences   int
	CacheTokens int `mapstructure:"cache_tokens"`
	Queue       int
	QueueTokens int     `mapstructure:"queue_tokens"`
	StepTokens  int     `mapstructure:"step_tokens"`
	Stretch     float64 `mapstructure:"prompt_stretch"`
	Threads     int
	GPULayers   int    `mapstructure:"gpu_layers"`
	KVCacheType string `mapstructure:"kv_cache_type"`
	Slots       int
	MaxRank     int      `mapstructure:"max_rank"` // 0: follows the adapters found at start
	Targets     []string // matrices that adapters may change
	AdaptersDir string   `mapstructure:"adapters_dir"`
}

// defaults has every key that is not within a list.
var defaults = map[string]any{
	"server.addr":             "127.0.0.1:8080",
	"server.max_body_bytes":   int64(10 << 20),
	"server.body_timeout":     30 * time.Second,
	"server.shutdown_timeout": 30 * time.Second,
	"log.level":               "info",
	"log.format":              "text",
	"adapters.dir":            "",
	"adapters.load_timeout":   5 * time.Second,
	"adapters.host_bytes":     int64(1 << 30),
}

// EnvPrefix begins the names of environment variables: server.addr is
// LORIKEET_SERVER_ADDR.
const EnvPrefix = "LORIKEET"

// Load reads the configuration. file may be empty: then there is none. overrides
// are keys set by flags.
func Load(file string, overrides map[string]any) (*Config, error) {
	v := viper.New()
	v.SetEnvPrefix(EnvPrefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	for key, value := range defaults {
		v.SetDefault(key, value)
	}
	if file != "" {
		v.SetConfigFile(file)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			var pathError *fs.PathError
			if errors.As(err, &pathError) {
				return nil, fmt.Errorf("config %s: %w", file, pathError.Err)
			}
			return nil, fmt.Errorf("config %s: %w", file, err)
		}
	}
	for key, value := range overrides {
		v.Set(key, value)
	}
	var c Config
	err := v.UnmarshalExact(&c, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		wholeDurations, mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(","))))
	if err == nil {
		err = c.Validate()
	}
	if err != nil && file != "" {
		return nil, fmt.Errorf("config %s: %w", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return &c, nil
}

// wholeDurations refuses a number where a duration is wanted: 5 would mean
// nanoseconds.
func wholeDurations(from, to reflect.Type, value any) (any, error) {
	if to == reflect.TypeFor[time.Duration]() && from != to && from.Kind() != reflect.String {
		return nil, fmt.Errorf("%v is not a duration such as \"5s\"", value)
	}
	return value, nil
}

var modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)

// Validate reports everything that is wrong, each with its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(c.Server.Addr); err != nil {
		bad("server.addr", "%q is not host:port", c.Server.Addr)
	}
	if c.Server.MaxBodyBytes < 1024 {
		bad("server.max_body_bytes", "%d is below 1024", c.Server.MaxBodyBytes)
	}
	for key, d := range map[string]time.Duration{
		"server.body_timeout": c.Server.BodyTimeout, "server.shutdown_timeout": c.Server.ShutdownTimeout, "adapters.load_timeout": c.Adapters.LoadTimeout,
	} {
		if d <= 0 {
			bad(key, "%s is not above 0", d)
		}
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, c.Log.Level) {
		bad("log.level", "%q is none of %s", c.Log.Level, strings.Join(levels, ", "))
	}
	if formats := []string{"text", "json"}; !slices.Contains(formats, c.Log.Format) {
		bad("log.format", "%q is none of %s", c.Log.Format, strings.Join(formats, ", "))
	}
	if c.Adapters.HostBytes < 0 {
		bad("adapters.host_bytes", "%d is below 0", c.Adapters.HostBytes)
	}
	if c.Adapters.Dir != "" {
		if err := isDir(c.Adapters.Dir); err != nil {
			bad("adapters.dir", "%v", err)
		}
	}
	seen := map[string]bool{}
	for i := range c.Models {
		if name := c.Models[i].Name; seen[name] {
			bad(fmt.Sprintf("models[%d].name", i), "model name %q is used twice", name)
		} else {
			seen[name] = true
		}
		c.Models[i].validate(fmt.Sprintf("models[%d]", i), bad)
	}
	return errors.Join(errs...)
}

func (m *Model) validate(key string, bad func(key, format string, args ...any)) {
	if !modelName.MatchString(m.Name) || strings.Contains(m.Name, "..") {
		bad(key+".name", "%q: only letters, digits and . _ / - are allowed, 128 at most, beginning with a letter or digit", m.Name)
	}
	if m.Path == "" {
		bad(key+".path", "is missing")
	}
	for _, n := range []struct {
		name             string
		value, low, high int
	}{
		{"context", m.Context, 0, 1 << 22}, {"sequences", m.Sequences, 0, 256}, {"cache_tokens", m.CacheTokens, 0, 1 << 26},
		{"queue", m.Queue, 0, 1 << 20}, {"queue_tokens", m.QueueTokens, 0, 1 << 30}, {"step_tokens", m.StepTokens, 0, 1 << 16},
		{"threads", m.Threads, 0, 1024}, {"gpu_layers", m.GPULayers, -1, 1 << 16}, {"slots", m.Slots, -1, 1024}, {"max_rank", m.MaxRank, 0, 512},
	} {
		if n.value < n.low || n.value > n.high {
			bad(key+"."+n.name, "%d is not between %d and %d", n.value, n.low, n.high)
		}
	}
	if m.Stretch != 0 && !(m.Stretch >= 1.1 && m.Stretch <= 100) {
		bad(key+".prompt_stretch", "%v is not between 1.1 and 100", m.Stretch)
	}
	if types := []string{"", "f16", "f32"}; !slices.Contains(types, m.KVCacheType) {
		bad(key+".kv_cache_type", "%q is none of f16, f32", m.KVCacheType)
	}
	if m.AdaptersDir != "" {
		if err := isDir(m.AdaptersDir); err != nil {
			bad(key+".adapters_dir", "%v", err)
		}
	}
}

func isDir(path string) error {
	st, err := os.Stat(path)
	var pathError *fs.PathError
	switch {
	case errors.As(err, &pathError):
		return fmt.Errorf("%s: %w", path, pathError.Err)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("%s: is not a folder", path)
	}
	return nil
}
