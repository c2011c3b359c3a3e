package dhcp

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// Lease is an address that a machine may use.
type Lease struct {
	Address netip.Addr
	MAC     string
	Name    string
	Expires time.Time
	Changed time.Time
}

// Store keeps leases on a disk.
type Store interface {
	// Put writes leases of different addresses, all of them or none, and returns
	// when they are on the disk. It says for each whether it was written: not if
	// another machine has the address, by a lease that has not ended at Changed.
	Put(ctx context.Context, leases []Lease) (ok []bool, err error)
	// Load calls f with the leases that changed at or after a time.
	Load(ctx context.Context, since time.Time, f func(Lease)) error
	// Get returns the lease of an address, the zero Lease if there is none.
	Get(ctx context.Context, a netip.Addr) (Lease, error)
	// Shared tells whether other servers use it, too.
	Shared() bool
}

// written is what came of writing a lease.
type written int

const (
	stored written = iota
	taken          // another machine has the address
	failed
)

const (
	maxQueue     = 4096
	maxBatch     = 256
	writeTimeout = 2 * time.Second
	writeRest    = 2 * time.Second // after a failure, in which nobody waits for the database
)

type pendingWrite struct {
	lease Lease
	done  func(written) // may be nil
}

// writer writes leases, all those that are waiting with one synchronization of
// the disk.
type writer struct {
	store Store
	log   *slog.Logger
	queue chan pendingWrite
}

func newWriter(s Store, log *slog.Logger) *writer {
	return &writer{store: s, log: log, queue: make(chan pendingWrite, maxQueue)}
}

// put never waits: if the queue is full the lease is dropped, and done not
// called, as if the client's packet had been lost.
func (w *writer) put(l Lease, done func(written)) {
	select {
	case w.queue <- pendingWrite{l, done}:
	default:
		w.log.Warn("too many leases wait for the database; a client has to ask again", "mac", l.MAC)
	}
}

type batchResult struct {
	ok  []bool
	err error
}

func (w *writer) run(ctx context.Context) {
	var rest time.Time
	var stuck chan batchResult // a write that is past its time
	for {
		batch := w.next(ctx)
		if batch == nil {
			return
		}
		if stuck != nil {
			select {
			case <-stuck:
				stuck = nil
			default:
			}
		}
		if stuck != nil || time.Now().Before(rest) {
			finish(batch, batchResult{}, failed)
			continue
		}
		leases := make([]Lease, len(batch))
		for i, p := range batch {
			leases[i] = p.lease
		}
		result := make(chan batchResult, 1)
		go func() {
			c, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
			defer cancel()
			ok, err := w.store.Put(c, leases)
			result <- batchResult{ok, err}
		}()
		timer := time.NewTimer(writeTimeout)
		select {
		case r := <-result:
			if r.err != nil {
				w.log.Error("leases cannot be written", "leases", len(leases), "error", r.err)
				rest = time.Now().Add(writeRest)
				finish(batch, r, failed)
				break
			}
			finish(batch, r, stored)
		case <-timer.C:
			w.log.Error("leases cannot be written: the database does not answer", "leases", len(leases))
			stuck, rest = result, time.Now().Add(writeRest)
			finish(batch, batchResult{}, failed)
		}
		timer.Stop()
	}
}

// next waits for leases and takes all that are there, up to the second for one
// address. It returns nil when ctx has ended and all is written.
func (w *writer) next(ctx context.Context) []pendingWrite {
	var first pendingWrite
	select {
	case first = <-w.queue:
	default:
		select {
		case <-ctx.Done():
			return nil
		case first = <-w.queue:
		}
	}
	batch := []pendingWrite{first}
	at := map[netip.Addr]int{first.lease.Address: 0}
	for len(batch) < maxBatch {
		select {
		case p := <-w.queue:
			if i, ok := at[p.lease.Address]; ok {
				// One statement cannot write a row twice. Of one machine the newer lease
				// goes, of two the first.
				done := batch[i].done
				if batch[i].lease.MAC == p.lease.MAC {
					batch[i].lease = p.lease
					batch[i].done = func(s written) { call(done, s); call(p.done, s) }
				} else {
					batch[i].done = func(s written) {
						call(done, s)
						if s == stored {
							s = taken
						}
						call(p.done, s)
					}
				}
				continue
			}
			at[p.lease.Address] = len(batch)
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

func call(f func(written), s written) {
	if f != nil {
		f(s)
	}
}

func finish(batch []pendingWrite, r batchResult, s written) {
	for i, p := range batch {
		was := s
		if s == stored && !r.ok[i] {
			was = taken
		}
		call(p.done, was)
	}
}
