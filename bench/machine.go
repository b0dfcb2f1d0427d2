package bench

import (
	"os"
	"runtime"
	"strings"
)

// Machine is what figures depend on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Threads   int    `json:"threads"` // of llama.cpp
	Go        string `json:"go"`
	Version   string `json:"version"` // of Lorikeet
	BaseBytes int64  `json:"base_bytes"`
}

func (e *Env) machine(version string) Machine {
	m := Machine{CPU: "unknown", Cores: runtime.NumCPU(), Threads: e.Threads, Go: runtime.Version(), Version: version}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if st, err := os.Stat(e.Base); err == nil {
		m.BaseBytes = st.Size()
	}
	return m
}
