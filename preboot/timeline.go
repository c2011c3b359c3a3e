package main

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/handoff"
)

// timeline notes when the stages of a boot were reached. What happens again
// counts the last time.
type timeline struct {
	mu sync.Mutex
	at map[string]time.Time
}

func newTimeline() *timeline { return &timeline{at: make(map[string]time.Time)} }

func (t *timeline) mark(stage string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at[stage] = time.Now()
}

// stages returns them in the order of time.
func (t *timeline) stages() []handoff.Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []handoff.Stage
	for name, at := range t.at {
		out = append(out, handoff.Stage{Name: name, Unix: at.UnixMilli()})
	}
	slices.SortFunc(out, func(a, b handoff.Stage) int {
		return cmp.Or(cmp.Compare(a.Unix, b.Unix), cmp.Compare(a.Name, b.Name))
	})
	return out
}
