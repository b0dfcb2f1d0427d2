package bench

import (
	"math"
	"slices"
	"time"
)

// percentile of values, between the two nearest where need be; p is 0 to 1.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := p * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

func median(values []float64) float64 { return percentile(values, 0.5) }

// series are values of one thing, a value for each round.
type series struct {
	name   string
	unit   string
	values []float64
}

func (s *series) add(v float64) { s.values = append(s.values, v) }

// part is the series as a raw figure.
func (s *series) part() Part { return Part{s.name, median(s.values), s.unit} }

// ratio is a ÷ b, as the median of what the rounds give. More raw figures may stand
// beside those of a and b.
func ratio(name string, a, b *series, more ...Part) Figure {
	var each []float64
	for i := range a.values {
		each = append(each, a.values[i]/b.values[i])
	}
	return Figure{
		Name: name, Value: median(each), Low: slices.Min(each), High: slices.Max(each),
		Parts: append([]Part{a.part(), b.part()}, more...),
	}
}

// atLeast and atMost set a figure's target.
func (f Figure) atLeast(target float64) Figure {
	f.Target, f.AtLeast = target, true
	return f
}

func (f Figure) atMost(target float64) Figure {
	f.Target, f.AtLeast = target, false
	return f
}

// leastSquares is the slope of the line that is nearest to points, and the standard
// deviation of that slope, as the points' distances from the line tell it.
func leastSquares(x, y []float64) (slope, deviation float64) {
	n := float64(len(x))
	var meanX, meanY float64
	for i := range x {
		meanX += x[i] / n
		meanY += y[i] / n
	}
	var xx, xy, rest float64
	for i := range x {
		xx += (x[i] - meanX) * (x[i] - meanX)
		xy += (x[i] - meanX) * (y[i] - meanY)
	}
	slope = xy / xx
	for i := range x {
		d := y[i] - meanY - slope*(x[i]-meanX)
		rest += d * d
	}
	return slope, math.Sqrt(rest / (n - 2) / xx)
}

// inTurns calls its functions in each of n rounds, in turns: forwards, then backwards,
// so that none has always the better place.
func inTurns(n int, functions ...func(round int) error) error {
	for round := range n {
		for i := range functions {
			if round%2 == 1 {
				i = len(functions) - 1 - i
			}
			if err := functions[i](round); err != nil {
				return err
			}
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
