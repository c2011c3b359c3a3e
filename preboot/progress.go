package main

import (
	"fmt"
	"time"

	"github.com/inetboot/inetboot/preboot/download"
)

// rate is bytes per second over the last few seconds.
type rate struct {
	points [6]struct {
		bytes int64
		at    time.Duration
	}
	n int
}

// at adds a measurement and returns the rate since the oldest one kept.
func (r *rate) at(bytes int64, at time.Duration) float64 {
	if r.n > 0 && bytes < r.points[(r.n-1)%len(r.points)].bytes {
		*r = rate{} // a file began anew
	}
	old := r.points[0]
	if r.n >= len(r.points) {
		old = r.points[r.n%len(r.points)]
	}
	if r.n == 0 {
		old.bytes, old.at = 0, 0
	}
	r.points[r.n%len(r.points)].bytes, r.points[r.n%len(r.points)].at = bytes, at
	r.n++
	if at <= old.at {
		return 0
	}
	return float64(bytes-old.bytes) / (at - old.at).Seconds()
}

// progressLine fits into 79 columns.
func progressLine(s download.Sizes, perSecond float64) string {
	left := "?"
	if rest := s.Total() - s.Done(); perSecond >= 1 {
		sec := int64(float64(rest)/perSecond) + 1
		if rest == 0 {
			sec = 0
		}
		left = fmt.Sprintf("%d:%02d", sec/60, sec%60)
	}
	return fmt.Sprintf("kernel %d %%, initrd %d %%: %s of %s, %s/s, %s left (Esc: back)",
		percent(s.Kernel, s.KernelTotal), percent(s.Initrd, s.InitrdTotal), size(s.Done()), size(s.Total()), size(int64(perSecond)), left)
}

func percent(n, total int64) int64 {
	if total == 0 {
		return 100
	}
	return n * 100 / total
}

// size writes bytes in powers of 1000, as download speeds are.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
