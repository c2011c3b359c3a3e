// Package boots keeps what machines report about their boots, and builds the
// boot packs of the images from it.
//
// Anybody can send reports, so this package trusts none. It takes them for
// images that the catalog lists and with blocks that they have; it keeps a
// bounded number, in files that an administrator can read; and a pack changes
// as far as pack.Merge lets the reports of several machines change it. The
// worst that lies can do is a pack with blocks of the image that its boots do
// not need.
package boots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/store"
)

// What is kept at most.
const (
	MaxImages  = 64 // with reports
	MaxReports = 16 // of an image: the newest one of each client
	MaxShare   = 4  // of these from one address

	// restful is how long an image must have been without a new report
	// before its reports make room for those of another one.
	restful = 7 * 24 * time.Hour

	// parseWait is how long a report may wait for others to be read.
	parseWait = 10 * time.Second
)

// The reasons for which a report is not taken, beside pack.ErrReport.
var (
	ErrUnknown = errors.New("the report is not about an image of this store")
	ErrBusy    = errors.New("there is no room for this report now")
)

// Options configures a Keeper.
type Options struct {
	Dir   string // of the reports; made when needed
	Store *store.Dir
	Log   *slog.Logger

	// Delay is how long a new report waits for more of them before the pack
	// is built; 0: 5 s.
	Delay time.Duration
}

// Keeper keeps reports. It is safe for concurrent use.
type Keeper struct {
	store   *store.Dir
	log     *slog.Logger
	delay   time.Duration
	reports folder
	logs    *logs
	parsing chan struct{} // as many as may be parsed at once
	wake    chan struct{}

	mu    sync.Mutex // held for bookkeeping and while small files are written
	kept  map[digest.SHA256][]kept
	dirty map[digest.SHA256]time.Time // when to look at it, at the earliest
	rest  map[digest.SHA256]time.Time // not to be built again before

	placing sync.Mutex // held while a pack gets into its place, or out of it

	boots   *prometheus.CounterVec
	packs   *prometheus.CounterVec
	seconds prometheus.Histogram
}

// kept is one report that is kept.
type kept struct {
	file     string // its name
	client   string
	from     string // address
	received time.Time
}

// Open returns a Keeper with the reports that are in its folder. Run has to
// be called for packs to be built.
func Open(o Options) (*Keeper, error) {
	if o.Delay == 0 {
		o.Delay = 5 * time.Second
	}
	k := &Keeper{
		store: o.Store, log: o.Log, delay: o.Delay, reports: folder(o.Dir),
		parsing: make(chan struct{}, 2), wake: make(chan struct{}, 1),
		kept: make(map[digest.SHA256][]kept), dirty: make(map[digest.SHA256]time.Time), rest: make(map[digest.SHA256]time.Time),
		boots:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inetboot_boot_reports_total", Help: "Reports of boots, by result."}, []string{"result"}),
		packs:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inetboot_boot_packs_total", Help: "Boot packs that were looked at after new reports, by result."}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "inetboot_boot_seconds", Help: "Time of boots, from the first to the last stage that they report.", Buckets: prometheus.ExponentialBuckets(2, 1.6, 12)}),
	}
	var err error
	if k.logs, err = openLogs(filepath.Join(o.Dir, "logs")); err != nil {
		return nil, err
	}
	manifests, err := k.reports.manifests()
	if err != nil {
		return nil, fmt.Errorf("open the folder of boot reports: %w", err)
	}
	for _, m := range manifests {
		if all := k.reports.list(m); len(all) > 0 {
			k.kept[m] = all
			k.dirty[m] = time.Time{} // a stop may have come before the pack was built
		}
	}
	return k, nil
}

// Collectors returns the counters.
func (k *Keeper) Collectors() []prometheus.Collector {
	return []prometheus.Collector{k.boots, k.packs, k.seconds}
}

func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Add takes a report that came from an address. Errors wrap pack.ErrReport,
// ErrUnknown, ErrBusy, or are of the disk.
func (k *Keeper) Add(ctx context.Context, from netip.Addr, data []byte) (err error) {
	defer func() {
		result := "kept"
		switch {
		case err == nil:
		case errors.Is(err, pack.ErrReport), errors.Is(err, ErrUnknown):
			result = "refused"
		case errors.Is(err, ErrBusy):
			result = "busy"
		default:
			result = "failed"
		}
		k.boots.WithLabelValues(result).Inc()
	}()
	r, data, err := k.parse(ctx, data)
	if err != nil {
		return err
	}
	image, err := k.check(r)
	if err != nil {
		return err
	}
	if err := k.keep(r.Image.Manifest, r.Client, Neighbourhood(from), data); err != nil {
		return err
	}
	k.tell(image, r, from)
	return nil
}

// parse returns a report, and it in the form in which it is kept.
func (k *Keeper) parse(ctx context.Context, data []byte) (*pack.Report, []byte, error) {
	done, err := k.turn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	r, err := pack.ParseReport(data)
	if err != nil {
		return nil, nil, err
	}
	if data, err = r.Marshal(); err != nil {
		return nil, nil, err
	}
	return r, data, nil
}

// turn waits until one more may be parsed. The caller calls done after it.
func (k *Keeper) turn(ctx context.Context) (done func(), err error) {
	late := time.NewTimer(parseWait)
	defer late.Stop()
	select {
	case k.parsing <- struct{}{}:
		return func() { <-k.parsing }, nil
	case <-late.C:
		return nil, fmt.Errorf("%w: others are being read", ErrBusy)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// check compares a report with the image that it is about, and returns the
// image's name.
func (k *Keeper) check(r *pack.Report) (string, error) {
	images, err := k.store.Images()
	if err != nil {
		return "", err
	}
	name, ok := images[r.Image.Manifest]
	if !ok {
		return "", fmt.Errorf("%w: the catalog does not list the manifest %s", ErrUnknown, r.Image.Manifest.Short())
	}
	if want := catalog.ManifestName(r.Image.Name, r.Image.Version, r.Image.Arch); want != name {
		return "", fmt.Errorf("%w: the manifest %s is %s, not %s", ErrUnknown, r.Image.Manifest.Short(), name, want)
	}
	m, err := k.store.Manifest(name, r.Image.Manifest)
	if err != nil {
		return "", err
	}
	files := m.Root.Files
	if !slices.EqualFunc(files, r.Files, func(f catalog.RootFile, name string) bool { return f.Name == name }) {
		return "", fmt.Errorf("%w: the root of %s has other files than %.200q", ErrUnknown, name, r.Files)
	}
	for _, a := range r.Trace {
		if n := (files[a.File].Index.Size - index.HeaderLength) / index.EntryLength; int64(a.Block) >= n {
			return "", fmt.Errorf("%w: %s has %d blocks in %s, none with the number %d", ErrUnknown, name, n, r.Files[a.File], a.Block)
		}
	}
	return name, nil
}

// keep writes the report and forgets those that it replaces.
func (k *Keeper) keep(m digest.SHA256, client, from string, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.kept[m]; !ok && len(k.kept) >= MaxImages {
		if err := k.makeRoom(); err != nil {
			return err
		}
	}
	n := kept{file: fileName(client, from), client: client, from: from, received: time.Now()}
	if err := k.reports.write(m, n.file, data); err != nil {
		return err
	}
	all := slices.DeleteFunc(k.kept[m], func(o kept) bool { return o.file == n.file })
	all, gone := bounded(append(all, n))
	for _, o := range gone {
		k.reports.remove(m, o.file)
	}
	k.kept[m] = all
	if _, ok := k.dirty[m]; !ok {
		k.dirty[m] = n.received.Add(k.delay)
	}
	k.nudge()
	return nil
}

// bounded takes reports, oldest first, and leaves the newest that may be
// kept. No address gets more than its share, so that one machine that makes
// up clients cannot drive the reports of the others out.
func bounded(all []kept) (left, gone []kept) {
	share := make(map[string]int)
	for _, r := range slices.Backward(all) {
		if share[r.from]++; share[r.from] > MaxShare || len(left) == MaxReports {
			gone = append(gone, r)
		} else {
			left = append(left, r)
		}
	}
	slices.Reverse(left)
	return left, gone
}

// makeRoom forgets the image that has been without a report for longest.
func (k *Keeper) makeRoom() error {
	var oldest digest.SHA256
	var at time.Time
	for m, all := range k.kept {
		if t := newest(all); oldest.IsZero() || t.Before(at) {
			oldest, at = m, t
		}
	}
	if time.Since(at) < restful {
		return fmt.Errorf("%w: those of %d images are kept", ErrBusy, len(k.kept))
	}
	for _, r := range k.kept[oldest] {
		k.reports.remove(oldest, r.file)
	}
	k.forget(oldest) // its pack stays, and what is known of it
	return nil
}

func newest(all []kept) time.Time {
	if len(all) == 0 {
		return time.Time{}
	}
	return all[len(all)-1].received
}

// forget ends what is going on for an image. k.mu is held.
func (k *Keeper) forget(m digest.SHA256) {
	delete(k.kept, m)
	delete(k.dirty, m)
	delete(k.rest, m)
}

// votes chooses the reports that count for a pack, oldest first. As soon as
// they come from three addresses each address has one vote.
func votes(all []kept) []kept {
	last := make(map[string]kept)
	for _, r := range all {
		last[r.from] = r
	}
	if len(last) < 3 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(r kept) bool { return last[r.from] != r })
}

// tell logs a boot.
func (k *Keeper) tell(image string, r *pack.Report, from netip.Addr) {
	total := 0.0
	var steps []any
	for _, s := range r.Steps() {
		total += s.Seconds
		steps = append(steps, slog.Float64(s.Name, s.Seconds))
	}
	k.seconds.Observe(total)
	k.log.Info("boot", "image", image, "client", r.Client, "from", from.String(), "boot_id", r.BootID, "seconds", total, slog.Group("stages", steps...),
		"blocks", len(r.Trace), "from_pack", r.Origins.Pack.Blocks, "from_disk", r.Origins.Disk.Blocks, "on_demand", r.Origins.Demand.Blocks)
}

// Neighbourhood is what counts as one address: of IPv6 the first 64 bits,
// because a single machine has all addresses that begin with them (RFC 4291
// section 2.5.4).
func Neighbourhood(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return a.String()
}

func fileName(client, from string) string {
	return strings.ReplaceAll(client+"_"+from, ":", "-") + ".json"
}
