package sched

// Pace finds out how many prompt tokens fit a step in which others generate, from
// how long steps take. The zero value knows nothing yet.
type Pace struct {
	generate float64 // seconds of a step without prompts, lately
	prompt   float64 // seconds that a prompt token adds
}

// Limits of a chunk, in tokens: the least makes progress whatever the clock says.
const (
	minChunk = 8
	maxChunk = 1 << 20
)

// weight of a new measurement in the running means.
const weight = 0.2

// Observe takes in how long a step has taken. The tokens of prompts in it are
// counted apart from the generated ones.
func (p *Pace) Observe(generated, prompt int, seconds float64) {
	switch {
	case generated > 0 && prompt == 0:
		mix(&p.generate, seconds)
	case prompt >= minChunk && generated == 0:
		mix(&p.prompt, seconds/float64(prompt))
	case prompt >= minChunk && seconds > p.generate:
		mix(&p.prompt, (seconds-p.generate)/float64(prompt))
	}
}

func mix(mean *float64, x float64) {
	if *mean == 0 {
		*mean = x
		return
	}
	*mean += weight * (x - *mean)
}

// Chunk is how many prompt tokens make a step stretch times as long as without. It is
// more where more sequences wait for their prompts than generate: a lone stream does
// not hold up a crowd.
func (p *Pace) Chunk(stretch float64, generating, prompts int) int {
	n := float64(4 * minChunk)
	if p.generate > 0 && p.prompt > 0 {
		n = max(minChunk, (stretch-1)*p.generate/p.prompt)
	}
	return int(min(maxChunk, n*max(1, float64(prompts)/float64(max(1, generating)))))
}
