package console

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Set is all consoles of a machine. Its methods may be called from any
// goroutine and do not wait for terminals.
type Set struct {
	keys chan Key

	mu       sync.Mutex
	state    state
	history  []string // what has been printed, for terminals that come later
	printed  int      // lines printed so far; history ends with the last of them
	terms    map[string]*terminal
	closed   bool
	versions int
}

// state is what the terminals shall show.
type state struct {
	screens  map[Size]Screen // nil: scrolling; the standard size is always among them
	progress string
	version  int
}

// What is kept of the lines, and how many of these a terminal gets that comes
// later: a slow line has no time for all.
const (
	maxHistory = 1000
	maxCatchUp = 200
)

// maxKeys is how many keys may wait to be read: somebody may paste a key or a
// URL.
const maxKeys = 4096

// New returns a Set without terminals.
func New() *Set {
	return &Set{keys: make(chan Key, maxKeys), terms: make(map[string]*terminal)}
}

// Keys returns the keys that are pressed on any terminal.
func (s *Set) Keys() <-chan Key { return s.keys }

// Print adds a line that scrolls. While a screen is drawn it is kept and
// printed when the screen goes.
func (s *Set) Print(line string) {
	line = Printable(line)
	s.change(func() {
		s.printed++
		if s.history = append(s.history, line); len(s.history) > maxHistory {
			s.history = slices.Delete(s.history, 0, len(s.history)-maxHistory)
		}
	})
}

// Progress shows line below the scrolling ones, in place of the one before.
func (s *Set) Progress(line string) {
	line = Printable(line)
	s.change(func() { s.state.progress = line })
}

// Draw shows what view returns for the size of each terminal. It calls view,
// once for each size, before it returns.
func (s *Set) Draw(view func(Size) Screen) {
	s.change(func() {
		s.state.screens = map[Size]Screen{standard(): append(Screen{}, view(standard())...)}
		s.state.progress = ""
		for _, t := range s.terms {
			if _, ok := s.state.screens[t.size]; !ok {
				s.state.screens[t.size] = append(Screen{}, view(t.size)...)
			}
		}
	})
}

// Lines returns what has been printed, the newest lines of it.
func (s *Set) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.history)
}

// Scroll goes back from a screen to lines.
func (s *Set) Scroll() {
	s.change(func() { s.state.screens, s.state.progress = nil, "" })
}

// Redraw paints everything anew, for terminals that have been switched on or
// disturbed in the meantime.
func (s *Set) Redraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.terms {
		t.spoiled = true
		t.wake()
	}
}

func (s *Set) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.versions++
	s.state.version = s.versions
	for _, t := range s.terms {
		t.wake()
	}
}

// Names returns the terminals in use.
func (s *Set) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for n := range s.terms {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Flush waits until every terminal shows the newest state, and nothing is on
// its way to one, but not longer than ctx allows.
func (s *Set) Flush(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !s.shown() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Set) shown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.terms {
		if t.shown != s.versions || t.spoiled || t.queued() > 0 {
			return false
		}
	}
	return true
}

// Close gives the terminals back as they were found.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	terms := s.terms
	s.terms = make(map[string]*terminal)
	s.mu.Unlock()
	for _, t := range terms {
		t.close()
	}
}

// press passes a key on; one that nobody reads is forgotten.
func (s *Set) press(k Key) {
	select {
	case s.keys <- k:
	default:
	}
}
