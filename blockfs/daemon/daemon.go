// Package daemon serves the root filesystem of a running machine. It is
// started by the target's init, outlives it, and ends when its filesystem is
// unmounted.
//
// # Deadlocks
//
// Everything that the machine runs comes through this process, so it must never
// wait for anything that the machine runs or stores: no path is opened once it
// is ready (the kernel's log and the file for statistics are open before), its
// memory is locked, the out-of-memory killer passes it by, and its name begins
// with "@", which tells systemd's shutdown to leave it alone
// (https://systemd.io/ROOT_STORAGE_DAEMONS).
package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/lease"
	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
)

// Name is what the daemon's argv[0] is.
const Name = "@blockfs"

// MemoryLimit is the soft limit of the daemon's heap, in bytes.
const MemoryLimit = 72 << 20

// Options is what the daemon needs.
type Options struct {
	Handoff *handoff.Handoff
	Dir     string    // where to mount
	Link    int       // index of the link that the machine was booted over
	Control io.Writer // Messages go there, one line of JSON each
	Orders  io.Reader // Orders come from there, one a line; its end means nothing
	Stats   *os.File  // a Report is written there each second; nil: nowhere
	Logger  *slog.Logger
	Lock    bool // lock memory and keep the OOM killer away; needs root
}

// Message is what the daemon says to the process that started it.
type Message struct {
	Ready bool   `json:"ready,omitempty"` // the files are there
	Error string `json:"error,omitempty"` // it cannot go on, or a read has failed
}

// Patient is the order to wait for ever from now on, whatever comes from the
// store. Until then wrong and missing blocks fail a read at once, so that a
// machine does not start from a root that is known to be damaged.
const Patient = "patient"

// Report is what the daemon writes to Options.Stats.
type Report struct {
	Blocks int64 `json:"blocks"` // of all files, zero blocks left out
	Bytes  int64 `json:"bytes"`  // of all files, plain
	Stored int64 `json:"stored"` // bytes of all blocks in the store

	Fetched       int64 `json:"fetched"` // blocks
	FetchedBytes  int64 `json:"fetched_bytes"`
	FetchedStored int64 `json:"fetched_stored"` // bytes of these blocks in the store
	Ahead         int64 `json:"ahead"`          // blocks of Fetched that nobody had asked for yet
	Hits          int64 `json:"hits"`           // blocks found in memory
	ReadBytes     int64 `json:"read_bytes"`
	Retries       int64 `json:"retries"`
	Refused       int64 `json:"refused"`
	Waiting       int64 `json:"waiting"`
	Down          bool  `json:"down"`
}

// Run serves until the filesystem is unmounted, or returns an error if it
// cannot be mounted.
func Run(ctx context.Context, o Options) error {
	debug.SetMemoryLimit(MemoryLimit)
	debug.SetGCPercent(40)
	if o.Lock {
		lock(o.Logger)
	}
	// Whoever wants to end the daemon unmounts.
	signal.Ignore(unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)

	var patient atomic.Bool
	say := sayer(o.Control)
	err := run(ctx, o, &patient, say)
	if err != nil {
		say(Message{Error: err.Error()})
	}
	return err
}

func lock(log *slog.Logger) {
	// On fault: reserved address space is not memory.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("memory cannot be locked: the daemon may be swapped out", "error", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		log.Warn("the OOM killer cannot be kept away", "error", err)
	}
}

func sayer(w io.Writer) func(Message) {
	var mu sync.Mutex
	return func(m Message) {
		mu.Lock()
		defer mu.Unlock()
		if b, err := json.Marshal(m); err == nil {
			_, _ = w.Write(append(b, '\n')) // nobody may be there any more
		}
	}
}

func run(ctx context.Context, o Options, patient *atomic.Bool, say func(Message)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := o.Handoff
	c, err := mirror.New(h.Mirrors, mirror.Options{
		Proxy: h.Proxy, CA: h.CA, Nameservers: h.Network.Nameservers, Logger: o.Logger, Attempts: 1,
	})
	if err != nil {
		return fmt.Errorf("mirrors of the store: %w", err)
	}
	store := &reporting{Store: read.Mirror(c), patient: patient, say: say}
	blocks := read.New(store, read.Options{Memory: 40 << 20, Patience: math.MaxInt64, Logger: o.Logger})
	defer blocks.Close()

	var files []mount.File
	var total Report
	for _, f := range h.Root.Files {
		x, err := Index(ctx, store, f, o.Logger)
		if err != nil {
			return err
		}
		total.Blocks += int64(x.Blocks())
		total.Bytes += x.Size()
		total.Stored += x.StoredSize()
		files = append(files, mount.File{Name: f.Name, File: blocks.Open(x)})
	}
	m, err := mount.New(o.Dir, files, mount.Options{Logger: o.Logger})
	if err != nil {
		return err
	}
	say(Message{Ready: true})

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	go func() { // ends with the process at the latest: its reader cannot be interrupted
		for s := bufio.NewScanner(o.Orders); s.Scan(); {
			if s.Text() == Patient {
				patient.Store(true)
				blocks.SetPatience(-1)
			}
		}
	}()
	if h.Network.Lease != nil {
		k, err := lease.New(h.Network, lease.OnLink(o.Link, address4(h.Network)), o.Logger)
		if err != nil {
			o.Logger.Warn("the DHCP lease will not be renewed", "error", err)
		} else {
			wg.Go(func() { _ = k.Run(ctx) })
		}
	}
	if o.Stats != nil {
		wg.Go(func() { report(ctx, blocks, total, o.Stats) })
	}
	<-m.Done()
	o.Logger.Debug("unmounted")
	return nil
}

// Index loads the index of a root's file. It waits for a store that cannot be
// reached, and says so.
func Index(ctx context.Context, s read.Store, f handoff.RootFile, log *slog.Logger) (*index.Index, error) {
	what := "index of " + f.Name
	for n := 0; ; n++ {
		x, err := s.Index(ctx, what, f.Index)
		if err == nil {
			if n > 1 {
				log.Info("the store answers: going on")
			}
			if x.Size() != f.Size {
				return nil, fmt.Errorf("%s describes a file of %d bytes, but %d are listed: %w", what, x.Size(), f.Size, digest.ErrMismatch)
			}
			return x, nil
		}
		if !errors.Is(err, read.ErrUnavailable) || ctx.Err() != nil {
			return nil, err
		}
		if n == 1 {
			log.Warn("the store cannot be reached: waiting for it; check the cable, the network and the server", "error", err)
		}
		t := time.NewTimer(min(5*time.Second, 200*time.Millisecond<<min(n, 5)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		}
	}
}

// reporting tells init about blocks that are refused while it can still stop.
type reporting struct {
	read.Store
	patient *atomic.Bool
	say     func(Message)
}

func (r *reporting) Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error) {
	b, err := r.Store.Block(ctx, e, dst)
	if err != nil && !errors.Is(err, read.ErrUnavailable) && ctx.Err() == nil && !r.patient.Load() {
		r.say(Message{Error: err.Error()})
	}
	return b, err
}

// report writes the counters to an open file, whose length never changes, so
// that its readers see one write or the next.
func report(ctx context.Context, b *read.Blocks, total Report, f *os.File) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var last Report
	for {
		s := b.Stats()
		r := total
		r.Fetched, r.FetchedBytes, r.FetchedStored, r.Ahead = s.FetchedBlocks, s.FetchedBytes, s.StoredBytes, s.AheadBlocks
		r.Hits, r.ReadBytes = s.Memory.Blocks, s.ReadBytes
		r.Retries, r.Refused, r.Waiting, r.Down = s.Retries, s.Refused, s.Waiting, s.Down
		if r != last {
			last = r
			if line, err := json.Marshal(r); err == nil && len(line) < 1023 {
				_, _ = f.WriteAt(fmt.Appendf(nil, "%-1023s\n", line), 0)
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
