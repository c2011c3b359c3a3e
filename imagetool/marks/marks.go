// Package marks keeps pushes and collections apart, also those of different
// machines.
//
// A push relies on blocks that were in the store before; a collection removes
// blocks that no image needs. So each puts a mark into the store first and
// looks for the other's marks afterwards: whoever comes second sees the first,
// because stores show what was written at once. Pushes wait for collections
// to end, collections for pushes. Marks are renewed while the work goes on;
// one that was not renewed for [Dead] was left behind by a program that died,
// and is removed. On the same machine that is seen at once.
package marks

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Kind is what a mark is about.
type Kind string

// The kinds of marks.
const (
	Push Kind = "push"
	GC   Kind = "gc"
)

// Dead is the age at which a mark that was not renewed counts for nothing, by
// the store's clock.
const Dead = time.Hour

const (
	renewEvery = 2 * time.Minute
	patience   = 10 * time.Minute // without a renewal, before work stops
	askEvery   = time.Second
	maxMark    = 4 << 10
)

var (
	// ErrLost is wrapped when the mark is gone: somebody took its owner for
	// dead, and may have done what it protected from.
	ErrLost = errors.New("the mark in the store is gone: somebody took this program for dead")
	// ErrBusy is wrapped when others are at work.
	ErrBusy = errors.New("somebody else is at work in the store")
)

// Note is what a mark says.
type Note struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Machine string    `json:"machine,omitempty"` // where PID means something: this boot of this machine, this PID namespace
	What    string    `json:"what"`
	Started time.Time `json:"started"`
	Renewed time.Time `json:"renewed"`
}

// Other is a mark that is in the store.
type Other struct {
	Kind Kind
	Path string
	Time time.Time // of the last renewal, by the store's clock
	Note Note
}

func (o Other) String() string {
	return fmt.Sprintf("%s of %s on %s, process %d, since %s", o.Kind, o.Note.What, o.Note.Host, o.Note.PID, o.Note.Started.Local().Format("2006-01-02 15:04"))
}

// Mark is a mark of this program. It is renewed until End.
type Mark struct {
	st   store.Store
	path string
	now  func() time.Time

	mu   sync.Mutex
	note Note
	tag  string
	last time.Time // of the renewal, by this machine's monotonic clock
	err  error

	stop context.CancelFunc
	done chan struct{}
}

// Begin puts a mark into the store. what says what the work is, for people.
func Begin(ctx context.Context, st store.Store, kind Kind, what string) (*Mark, error) {
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("make a mark: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	m := &Mark{
		st: st, path: storepath.Mark(string(kind) + "-" + hex.EncodeToString(id)), now: time.Now,
		note: Note{Host: host, PID: os.Getpid(), Machine: machine(), What: what, Started: time.Now().UTC()}, done: make(chan struct{}),
	}
	if err := m.renew(ctx); err != nil {
		return nil, err
	}
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	go m.keep(ctx)
	return m, nil
}

func (m *Mark) keep(ctx context.Context) {
	defer close(m.done)
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			// A store that is away for a moment is tried again; Check
			// judges by the age of the last success.
			if err := m.renew(ctx); errors.Is(err, ErrLost) {
				return
			}
		}
	}
}

// renew writes the mark anew.
func (m *Mark) renew(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	begin := m.now()
	m.note.Renewed = begin.UTC()
	data, err := json.Marshal(m.note)
	if err != nil {
		return fmt.Errorf("write a mark: %w", err)
	}
	err = m.st.Replace(ctx, m.path, data, m.tag)
	if errors.Is(err, store.ErrConflict) {
		// Our own write may have been repeated because its answer was lost.
		if now, tag, lerr := m.st.Load(ctx, m.path, maxMark); lerr == nil && string(now) == string(data) {
			m.tag, m.last = tag, begin
			return nil
		}
		m.err = fmt.Errorf("renew %s: %w", m.path, ErrLost)
		return m.err
	}
	if err != nil {
		return err
	}
	_, tag, err := m.st.Load(ctx, m.path, maxMark)
	if errors.Is(err, store.ErrNotExist) {
		m.err = fmt.Errorf("renew %s: %w", m.path, ErrLost)
		return m.err
	}
	if err != nil {
		return err
	}
	m.tag, m.last = tag, begin
	return nil
}

// Confirm renews the mark. Nobody else has begun what the mark protects from
// when it returns nil. It is for the moment before work counts.
func (m *Mark) Confirm(ctx context.Context) error { return m.renew(ctx) }

// Check renews the mark if that was long ago, and is cheap otherwise.
func (m *Mark) Check(ctx context.Context) error {
	m.mu.Lock()
	err, age := m.err, m.now().Sub(m.last)
	m.mu.Unlock()
	if err != nil || age < patience {
		return err
	}
	return m.renew(ctx)
}

// End removes the mark.
func (m *Mark) End(ctx context.Context) error {
	m.stop()
	<-m.done
	m.mu.Lock()
	lost := errors.Is(m.err, ErrLost)
	m.mu.Unlock()
	if lost {
		return nil
	}
	return m.st.Remove(context.WithoutCancel(ctx), []string{m.path})
}

// Others returns the marks of a kind that are alive, and the store's time.
// Dead ones are removed.
func (m *Mark) Others(ctx context.Context, kind Kind) (alive []Other, now time.Time, err error) {
	var all []Other
	err = m.st.List(ctx, storepath.KindMark, func(i store.Info) error {
		if i.Path == m.path {
			now = i.Time
		}
		name := strings.TrimSuffix(strings.TrimPrefix(i.Path, "marks/"), ".json")
		if k, _, ok := strings.Cut(name, "-"); ok && Kind(k) == kind && i.Path != m.path {
			all = append(all, Other{Kind: kind, Path: i.Path, Time: i.Time})
		}
		return nil
	})
	if err != nil {
		return nil, now, err
	}
	if now.IsZero() {
		return nil, now, fmt.Errorf("look for %s: %w", m.path, ErrLost)
	}
	for _, o := range all {
		if now.Sub(o.Time) > Dead {
			if err := m.st.Remove(ctx, []string{o.Path}); err != nil {
				return nil, now, err
			}
			continue
		}
		data, _, err := m.st.Load(ctx, o.Path, maxMark)
		if errors.Is(err, store.ErrNotExist) {
			continue // it has ended
		}
		if err != nil {
			return nil, now, err
		}
		_ = json.Unmarshal(data, &o.Note) // a mark that says nothing counts, too
		if o.Note.killed() {
			if err := m.st.Remove(ctx, []string{o.Path}); err != nil {
				return nil, now, err
			}
			continue
		}
		alive = append(alive, o)
	}
	return alive, now, nil
}

// Enter begins work of a kind and waits until no work of the kind against is
// under way, at most for wait. told is called once with what is waited for.
// The error wraps ErrBusy when the time is over. now is the store's time.
func Enter(ctx context.Context, st store.Store, kind, against Kind, what string, wait time.Duration, told func([]Other)) (m *Mark, now time.Time, err error) {
	end := time.Now().Add(wait)
	for {
		m, err := Begin(ctx, st, kind, what)
		if err != nil {
			return nil, now, err
		}
		others, now, err := m.Others(ctx, against)
		if err == nil && len(others) == 0 {
			return m, now, nil
		}
		// Without the mark, so that those who are waited for, and others of
		// their kind, are not kept waiting.
		if err := errors.Join(err, m.End(ctx)); err != nil {
			return nil, now, err
		}
		if !time.Now().Add(askEvery).Before(end) {
			return nil, now, fmt.Errorf("%w: %s", ErrBusy, others[0])
		}
		if told != nil {
			told(others)
			told = nil
		}
		select {
		case <-ctx.Done():
			return nil, now, ctx.Err()
		case <-time.After(askEvery):
		}
	}
}
