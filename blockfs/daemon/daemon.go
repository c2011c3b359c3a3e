// Package daemon serves the root filesystem of a running machine. It is
// started by the target's init, outlives it, and ends when its filesystem is
// unmounted.
//
// # Deadlocks
//
// Everything that the machine runs comes through this process, so it must never
// wait for anything that the machine runs or stores: no path is opened once it
// is ready (the kernel's log, the files for what it tells, and the folder of
// the cache are open before), its memory is locked, the out-of-memory killer
// passes it by, signals are ignored, and its name begins with "@", which tells
// systemd's shutdown to leave it alone (https://systemd.io/ROOT_STORAGE_DAEMONS).
// Should a library open a path all the same, the daemon's root folder is still
// the emptied initramfs, in memory, and not the filesystem that it serves.
//
// It is not marked as a flusher (PR_SET_IO_FLUSHER): nothing is ever written
// by way of it, and Linux does not call the out-of-memory killer for flushers.
// If all others waited for the daemon, and it for memory, nobody would.
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
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/lease"
	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/nic"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
)

// Name is what the daemon's argv[0] is.
const Name = "@blockfs"

// MemoryLimit is the soft limit of the daemon's heap, in bytes.
const MemoryLimit = 80 << 20

// Bounds for blocks, in bytes, which together with what go-fuse needs for its
// requests stay below MemoryLimit.
const (
	memory   = 32 << 20
	inFlight = 16 << 20
	held     = 14 << 20
)

// bounds returns what read.Options bound. Without a cache on a disk more is
// kept as stored, a third of its size, so that less is fetched again. A heap
// close to MemoryLimit is collected all the time: some 25 MiB are for others.
func bounds(cached bool) read.Options {
	o := read.Options{Memory: memory, InFlight: inFlight, Held: held, Patience: math.MaxInt64}
	if !cached {
		o.Memory -= 10 << 20
	}
	return o
}

// remeasure is about how often the mirrors' distances are measured.
const remeasure = 10 * time.Minute

// noLink stands for the machine's address in the report of a boot without a
// network, which only the machine itself gets to see.
const noLink = "00:00:00:00:00:00"

// Options is what the daemon needs.
type Options struct {
	Handoff *handoff.Handoff
	Dir     string    // where to mount
	Link    int       // index of the link that the machine was booted over; 0: none
	Control io.Writer // Messages go there, one line of JSON each
	Orders  io.Reader // Orders come from there, one a line; its end means nothing
	Stats   *os.File  // a Report is written there each second in which something changed; nil: nowhere
	Boot    *os.File  // the report of the boot is written there; nil: nowhere
	Status  net.Listener
	Kernel  *os.File      // the kernel's log, for reading without waiting (O_NONBLOCK); sent to the handoff's syslog receiver; nil: it is not
	Cache   string        // the cache folder; "": none
	Fill    bool          // fill the cache in the background
	Delay   time.Duration // before that, at most; 0: 20 s
	Logger  *slog.Logger
	Lock    bool       // lock memory and keep the OOM killer away; needs root
	Quiet   pack.Quiet // when the boot is over; zero: pack.DefaultQuiet

	// Local returns a file that travelled with the handoff, by its path
	// (handoff.IndexPath, handoff.StorePath). nil: there are none.
	Local func(path string) ([]byte, error)
}

// Message is what the daemon says to the process that started it.
type Message struct {
	Ready bool   `json:"ready,omitempty"` // the files are there
	Error string `json:"error,omitempty"` // it cannot go on, or a read has failed
}

// Patient is the order to wait for ever from now on, whatever comes from the
// store: the root is handed over to the machine's init. Until then wrong and
// missing blocks fail a read at once, so that a machine does not start from a
// root that is known to be damaged.
const Patient = "patient"

// StageOrder tells that a stage of the boot was reached: "stage NAME UNIX",
// with milliseconds since 1970.
func StageOrder(name string, unix int64) string { return fmt.Sprintf("stage %s %d", name, unix) }

// FailureOrder tells why init has given the boot up: "failed REASON".
func FailureOrder(reason string) string {
	return "failed " + strings.Join(strings.Fields(reason), " ")
}

// Report is what the daemon writes to Options.Stats.
type Report struct {
	Blocks int64 `json:"blocks"` // of all files, zero blocks left out
	Bytes  int64 `json:"bytes"`  // of all files, plain
	Stored int64 `json:"stored"` // bytes of all blocks in the store

	Fetched       int64 `json:"fetched"` // blocks that came over the network
	FetchedBytes  int64 `json:"fetched_bytes"`
	FetchedStored int64 `json:"fetched_stored"` // bytes of these blocks in the store
	Ahead         int64 `json:"ahead"`          // blocks of Fetched that nobody had asked for yet
	Pack          int64 `json:"pack"`           // blocks of Fetched that came in the boot pack
	Disk          int64 `json:"disk"`           // blocks that the cache had
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
	debug.SetGCPercent(20) // what is large is used again, not collected
	mount.SpareProcs()
	if o.Lock {
		lock(o.Logger)
	}
	ignoreSignals()

	say := sayer(o.Control)
	d := &daemon{o: o, log: o.Logger, say: say}
	err := d.run(ctx)
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
	if err := ignoreLibrarySignals(); err != nil {
		log.Warn("some signals end the daemon", "error", err)
	}
}

// ignoreSignals ignores all that end or stop a process and can be ignored, but
// those by which faults of its own are reported. Whoever wants to end the
// daemon unmounts.
func ignoreSignals() {
	faults := []unix.Signal{unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS}
	var list []os.Signal
	for s := unix.Signal(1); s < 32; s++ {
		if s != unix.SIGKILL && s != unix.SIGSTOP && s != unix.SIGURG && s != unix.SIGCHLD && !slices.Contains(faults, s) {
			list = append(list, s)
		}
	}
	signal.Ignore(list...) // the runtime lets those from 35 on pass
}

// ignoreLibrarySignals ignores those that Go's runtime leaves to C libraries,
// which this program does not have when it is built to be a daemon.
func ignoreLibrarySignals() error {
	// The kernel's struct sigaction: handler, flags, restorer, mask (rt_sigaction(2)).
	const sigIgn = 1
	action := [8]uintptr{sigIgn}
	for _, s := range []uintptr{32, 33, 34} {
		if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0); errno != 0 {
			return errno
		}
	}
	return nil
}

// steadyClock returns a clock that goes on from now, whatever is done to the
// machine's: certificates that were good for the boot stay good until they end.
func steadyClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(time.Since(start)) }
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

// daemon is a running one.
type daemon struct {
	o       Options
	log     *slog.Logger
	say     func(Message)
	root    *root.Root
	disk    *disk
	client  *mirror.Client
	nic     *nic.Keeper // nil: there is no link
	patient atomic.Bool
	report  atomic.Pointer[pack.Report]
	remote  *remoteLog // nil: the log is not sent
	wg      sync.WaitGroup
}

func (d *daemon) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := d.o.Handoff
	if d.o.Link != 0 {
		d.nic = nic.NewKeeper(d.o.Link, h.Network, d.log)
	}
	d.disk = openDisk(ctx, d.o.Cache, d.log)
	defer d.disk.close()
	// Servers of the network, or of nobody: resolv.conf lies on the root.
	servers := resolvers(h.Network, d.o.Link)
	if h.Offline {
		servers = d.disk.state.Nameservers
	}
	if d.client, err = mirror.New(h.Mirrors, mirror.Options{
		Proxy: h.Proxy, CA: h.CA, Nameservers: servers, Logger: d.log, Attempts: 1, Remeasure: remeasure,
		Clock: steadyClock(),
	}); err != nil {
		return fmt.Errorf("mirrors of the store: %w", err)
	}
	defer d.client.Close()
	if d.o.Kernel != nil {
		if d.remote = openLog(context.WithoutCancel(ctx), h, d.o.Link); d.remote != nil {
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if err := d.remote.follow(ctx, d.o.Kernel); err != nil && ctx.Err() == nil {
					d.log.Warn("the log is not sent any more", "error", err)
				}
			}()
			defer func() {
				cancel()
				_ = d.o.Kernel.SetReadDeadline(time.Now())
				<-ended
				d.remote.close()
			}()
		}
	}
	if h.Cache.UUID == "" {
		// Preboot has not seen this disk: it did not know what is remembered.
		d.disk.order(d.client)
	}

	o := root.Options{
		Mirrors: d.client, Cache: d.disk.cache, Image: h.Image, Logger: d.log,
		Read: bounds(d.disk.cache != nil),
		Wrap: func(s read.Store) read.Store {
			return &reporting{Store: s, patient: &d.patient, say: d.say, nic: d.nic}
		},
	}
	if d.o.Local != nil {
		o.Local = func(sum digest.SHA256) ([]byte, error) { return d.o.Local(handoff.IndexPath(sum)) }
	}
	for _, f := range h.Root.Files {
		o.Files = append(o.Files, root.File{Name: f.Name, Index: f.Index, Size: f.Size})
	}
	if d.root, err = root.Open(ctx, o); err != nil {
		return err
	}
	defer d.root.Close()
	for _, s := range h.Stages {
		d.root.MarkAt(s.Name, s.Unix)
	}
	d.root.PinMetadata()
	m, err := mount.New(d.o.Dir, d.root.Files(), mount.Options{Logger: d.log})
	if err != nil {
		return err
	}
	d.root.Mark(root.StageFiles)
	d.say(Message{Ready: true})

	defer d.wg.Wait()
	defer cancel()
	go d.orders(ctx) // ends with the process at the latest: its reader cannot be interrupted
	if !h.Offline {
		d.wg.Go(func() { d.root.Pack(ctx) })
	}
	if d.disk.cache != nil {
		d.wg.Go(func() { d.disk.watch(ctx) })
	}
	if h.Network.Lease != nil && d.o.Link != 0 {
		k, err := lease.New(h.Network, lease.OnLink(d.o.Link, address4(h.Network)), d.log)
		if err != nil {
			d.log.Warn("the DHCP lease will not be renewed", "error", err)
		} else {
			d.wg.Go(func() { _ = k.Run(ctx) })
		}
	}
	if l := h.Network.Lease6; l != nil && d.o.Link != 0 {
		k := &lease.Keeper6{Lease: *l, Renew: lease.Renew6OnLink(d.o.Link), Logger: d.log}
		d.wg.Go(func() { _ = k.Run(ctx) })
	}
	if d.o.Stats != nil {
		d.wg.Go(func() { d.stats(ctx) })
	}
	if d.o.Status != nil {
		d.wg.Go(func() {
			if err := d.root.Serve(ctx, d.o.Status, d.report.Load); err != nil {
				d.log.Warn("the state of the root cannot be asked for any more", "error", err)
			}
		})
	}
	<-m.Done()
	d.log.Debug("unmounted")
	return nil
}

// orders carries out what init says.
func (d *daemon) orders(ctx context.Context) {
	for s := bufio.NewScanner(d.o.Orders); s.Scan(); {
		words := strings.Fields(s.Text())
		switch {
		case len(words) == 1 && words[0] == Patient && !d.patient.Load():
			d.patient.Store(true)
			d.root.Blocks().SetPatience(-1)
			d.wg.Go(func() { d.afterBoot(ctx) })
		case len(words) > 1 && words[0] == "failed" && !d.patient.Load():
			d.wg.Go(func() { d.tellFailure(ctx, strings.Join(words[1:], " ")) })
		case len(words) == 3 && words[0] == "stage":
			if unix, err := strconv.ParseInt(words[2], 10, 64); err == nil {
				d.root.MarkAt(words[1], unix)
			}
		}
	}
}

// afterBoot waits until the machine has booted, tells what it took, and goes
// on with what has no hurry.
func (d *daemon) afterBoot(ctx context.Context) {
	q := d.o.Quiet
	if q == (pack.Quiet{}) {
		q = pack.DefaultQuiet()
	}
	h := d.o.Handoff
	client := h.Network.MAC
	if h.Offline {
		client = noLink
	}
	rep, err := d.root.Booted(ctx, q, h.BootID, client)
	if err != nil {
		return
	}
	d.report.Store(rep)
	d.remote.bootOver()
	if data, err := rep.Marshal(); err != nil {
		d.log.Debug("no boot report", "error", err)
	} else {
		if d.o.Boot != nil {
			if _, err := d.o.Boot.WriteAt(data, 0); err != nil {
				d.log.Debug("boot report not written", "error", err)
			}
		}
		if !h.Offline {
			d.root.SendReport(ctx, rep)
		}
	}
	d.disk.remember(d.client, h)
	d.keepCatalog(ctx)
	if d.disk.cache != nil && d.o.Fill {
		d.fill(ctx)
	}
}

// reporting tells init about blocks that are refused while it can still stop,
// and looks at the link while blocks do not come.
type reporting struct {
	read.Store
	patient *atomic.Bool
	say     func(Message)
	nic     *nic.Keeper
}

func (r *reporting) Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error) {
	done := r.nic.Watch()
	defer done()
	b, err := r.Store.Block(ctx, e, dst)
	if errors.Is(err, read.ErrUnavailable) && ctx.Err() == nil {
		r.nic.Look()
	}
	if err != nil && !errors.Is(err, read.ErrUnavailable) && ctx.Err() == nil && !r.patient.Load() {
		r.say(Message{Error: err.Error()})
	}
	return b, err
}

// stats writes the counters to an open file, whose length never changes, so
// that its readers see one write or the next: once a second at most, and only
// if they have changed, so that the daemon of an idle machine sleeps.
func (d *daemon) stats(ctx context.Context) {
	size := d.root.Sizes()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	var last Report
	for {
		s := d.root.Blocks().Stats()
		r := Report{
			Blocks: size.Blocks, Bytes: size.Bytes, Stored: size.Stored,
			Fetched: s.FetchedBlocks, FetchedBytes: s.FetchedBytes, FetchedStored: s.StoredBytes, Ahead: s.AheadBlocks,
			Pack: s.By[read.FromPack].Blocks, Disk: s.By[read.FromDisk].Blocks, Hits: s.Memory.Blocks, ReadBytes: s.ReadBytes,
			Retries: s.Retries, Refused: s.Refused, Waiting: s.Waiting, Down: s.Down,
		}
		if r != last {
			last = r
			if line, err := json.Marshal(r); err == nil && len(line) < 1023 {
				_, _ = d.o.Stats.WriteAt(fmt.Appendf(nil, "%-1023s\n", line), 0)
			}
		}
		t.Reset(time.Second)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-d.root.Blocks().Changed():
		case <-ctx.Done():
			return
		}
	}
}
