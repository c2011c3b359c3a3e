package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/cache"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/network"
	"github.com/inetboot/inetboot/preboot/settings"
	"github.com/inetboot/inetboot/preboot/system"
)

// Pauses before an attempt is repeated without anybody's doing, in seconds.
const (
	firstPause = 10
	lastPause  = 120
	bootPause  = 30 // after an entry failed that nobody chose
)

// resumePatience is how long a download that has begun waits for a server that
// is away.
const resumePatience = time.Minute

// session is one machine's way from its first line to another kernel.
type session struct {
	con    *console.Set
	set    *settings.Settings
	net    *network.Network
	line   *timeline
	syslog *syslog.Sender
	id     string                // of this boot
	end    func(id string) error // restarts the machine or switches it off; returns only if that fails
	kexec  kexecCalls
	idle   time.Duration // how long a server may send nothing; 0: as mirror.Options has it
	resume time.Duration // how long a download that has begun waits for a server that is away; 0: resumePatience
	store  *store

	cache  *cache.Search // nil: no cache is wanted
	cached cachedCatalog
	seen   *tuf.Trusted // what a catalog that was refused had verified before
	quiet  atomic.Bool  // the network is looked for behind a menu

	cmdline string // the kernel's, as people have changed it since
	before  *saved // what was before the last change; nil: nothing was changed
	prefer  string // the mirror that a person wants; "": the nearest

	machine machine // what a server says of this machine

	reports reporter
	entry   string // of the menu that was chosen last; "": none

	scripted   bool // the script has run
	cacheShown bool // the menu knows what has become of the search for the cache
}

// kexecCalls are boot.Load and boot.Exec: where there is no kernel to leave for,
// others can stand in.
type kexecCalls struct {
	load func(kernel, initrd *os.File, cmdline string) error
	exec func() error
}

// store is an open store: what a menu can be shown from.
type store struct {
	client  *mirror.Client // nil if offline
	source  *cache.Source
	catalog *catalog.Catalog
	menu    *catalog.Menu
	proxy   string // that leads to the store; "": none
	offline string // why there is no network, and the cache is all there is; "": there is one
	facts   *gatherer
}

// close ends what goes on behind a store.
func (st *store) close() {
	if st == nil {
		return
	}
	st.facts.stop()
	if st.client != nil {
		st.client.Close()
	}
}

func runSession(ctx context.Context) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("name this boot: %w", err)
	}
	s := &session{con: console.New(), line: newTimeline(), id: fmt.Sprintf("%x", id)}
	s.syslog = syslog.New(s.id)
	s.end = func(id string) error { return endMachine(s.con, id) }
	s.kexec = kexecCalls{boot.Load, boot.Exec}
	defer s.syslog.Close()
	s.line.mark("init")
	s.con.Attach(ctx)
	defer s.con.Close()
	s.say("InetBoot, %s", runtime.GOARCH)
	if f := os.Getenv(faultVariable); f != "" {
		s.log("fault: " + f)
	}
	if err := s.raiseClock(); err != nil {
		s.say("%v", err)
	}
	if err := s.readSettings(ctx); err != nil {
		return err
	}
	s.findCache(ctx)
	defer s.cache.Close()
	s.net = network.New(network.Options{
		Log:        s.report,
		Mark:       s.line.mark,
		ResolvConf: "/etc/resolv.conf",
		Hardware:   func() string { return hardware("/sys/bus", "/lib/modules", system.KernelLog) },
	})
	return s.run(ctx)
}

// run looks for what is to be started and starts it. It returns only if ctx has
// ended.
func (s *session) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if s.set.Image != "" {
			s.serveImage(ctx)
			if !s.set.Store() {
				continue
			}
			s.set.Image = ""
		}
		if s.net.Config() == nil || s.store == nil {
			s.connect(ctx)
		}
		s.serve(ctx)
	}
	return ctx.Err()
}

// say prints a line on all consoles, and sends it to the syslog receiver.
func (s *session) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	s.con.Print("inetboot: " + line)
	s.log(line)
}

// report prints a line about the network, unless a person looks at a menu in
// front of it. The syslog receiver gets it in any case.
func (s *session) report(line string) {
	if !s.quiet.Load() {
		s.con.Print("inetboot: " + line)
	}
	s.log(line)
}

func (s *session) raiseClock() error {
	sec, err := strconv.ParseInt(builtAt, 10, 64)
	if err != nil {
		return nil // a build without a time
	}
	was := time.Now()
	floor := time.Unix(sec, 0)
	raised, err := system.RaiseClock(floor)
	if raised {
		s.say("the clock said %s, before this medium was made; it is set to %s", stamp(was), stamp(floor))
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// readSettings returns when there are settings that can lead somewhere.
func (s *session) readSettings(ctx context.Context) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel command line: %w", err)
	}
	s.cmdline = string(cmdline)
	s.set, err = settings.Read(s.cmdline, os.DirFS("/"))
	for err != nil && ctx.Err() == nil {
		text := "failed: settings: " + console.Printable(err.Error())
		s.say("%s", text)
		items := s.machineItems()
		if errors.Is(err, settings.ErrNoURL) || errors.Is(err, settings.ErrNoTrust) {
			items = append([]menu.Item{{ID: storeID, Title: "Type the address of a store, and its key"}, {ID: urlID, Title: "Start an image by its URL"}}, items...)
		}
		ev := s.ask(ctx, menu.Options{Title: "InetBoot: this medium does not know what to do", Text: text, Items: items, Timeout: -1})
		switch {
		case ev.Picked == nil:
		case ev.Picked.ID == storeID:
			if s.editStore(ctx) == reconnect {
				err = nil
			}
		case ev.Picked.ID == urlID:
			if url, ok := s.typeURL(ctx); ok {
				err = s.changeImage(url)
			}
		default:
			if _, toolErr := s.tool(ctx, ev.Picked.ID); toolErr != nil && !isCancelled(toolErr) {
				s.say("%s", explain(toolErr))
			}
		}
	}
	return ctx.Err()
}

// ask shows a small menu of the machine's own and carries out what ends the
// machine. It returns for everything else.
func (s *session) ask(ctx context.Context, o menu.Options) menu.Event {
	o.Enter = "choose"
	m := menu.New(o)
	for {
		ev := choose(ctx, s.con, m)
		if ev.Picked == nil || ev.Picked.ID != rebootID && ev.Picked.ID != powerOffID {
			s.con.Scroll()
			return ev
		}
		if err := s.end(ev.Picked.ID); err != nil {
			m.Status("inetboot: failed: " + err.Error())
		}
	}
}

// connect returns when a store is open, over the network or, where there is
// none, in the cache; or when ctx has ended.
func (s *session) connect(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, lastPause) {
		s.con.Scroll()
		err := s.tryNetwork(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		if s.openCached(ctx, err) {
			return
		}
		s.failed(ctx, "no store can be reached", explainAll(err), "", pause)
	}
}

// resolvers returns the name servers to ask over the link of c.
func (s *session) resolvers(c *network.Config) []netip.Addr {
	if len(s.set.Nameservers) > 0 {
		return s.set.Nameservers
	}
	return c.Resolvers(c.Link)
}

// proxies returns the HTTP proxies to try over the link of c, in order; "" is
// none.
func (s *session) proxies(c *network.Config) []string {
	if s.set.Proxy == "" && !s.set.NoProxy && c.Proxy != "" {
		// Nobody here has asked for the network's proxy.
		s.report("the network names the proxy " + c.Proxy)
		return []string{c.Proxy, ""}
	}
	return []string{s.set.Proxy}
}

// newClient returns a client for base URLs over the link of c.
func (s *session) newClient(urls []string, c *network.Config, proxy string) (*mirror.Client, error) {
	servers := s.resolvers(c)
	if len(servers) == 0 && needsNames(urls) {
		s.say("the network on %s names no name server; give nameserver=... or a URL with an address", c.Link)
	}
	return mirror.New(urls, mirror.Options{
		Proxy: proxy, CA: s.set.CA, Roots: publicRoots, Nameservers: servers, Idle: s.idle, Resume: cmp.Or(s.resume, resumePatience),
		Switched: func(from, to string, why error) { s.report(failing(from, why) + ": going on with " + to) },
		Waiting:  func(url string, why error) { s.report(failing(url, why) + ": waiting for it") },
	})
}

// preferMirror makes client ask the mirror first that a person wants.
func (s *session) preferMirror(client *mirror.Client) {
	if s.prefer != "" {
		client.SetOrder([]mirror.Measurement{{URL: s.prefer}})
	}
}

// openStore opens the store over the link of c.
func (s *session) openStore(ctx context.Context, c *network.Config) error {
	s.startLog(ctx, c, s.resolvers(c))
	var err error
	for _, proxy := range s.proxies(c) {
		if err = s.openStoreBy(ctx, c, proxy); err == nil || ctx.Err() != nil {
			return err
		}
	}
	s.flushLog() // the link may lose its address now
	return err
}

// openStoreBy opens the store by way of a proxy, "": directly. If something
// seems to have expired, the clock is looked at before it is believed.
func (s *session) openStoreBy(ctx context.Context, c *network.Config, proxy string) error {
	client, err := s.newClient(s.set.URLs, c, proxy)
	if err != nil {
		return part("settings", err)
	}
	client.SetOrder(s.remembered())
	for _, u := range client.URLs() {
		s.report(fmt.Sprintf("asking %s over %s", u, c.Link))
	}
	if len(client.URLs()) > 1 {
		client.Measure(ctx)
		s.preferMirror(client)
	}
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := s.askMachine(mctx, c, client.HTTP()) // while the catalog is read
	st, err := s.load(ctx, client)
	if aboutTime(err) {
		s.report(explain(err))
		if s.setClock(ctx, c, s.resolvers(c)) {
			st, err = s.load(ctx, client)
		}
	}
	if err != nil {
		defer client.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.report(explain(err))
		if refused(err) { // so the server answers
			s.tellRefusal(ctx, client, c.MAC, explain(err))
		}
		return err
	}
	st.proxy = proxy
	if old := s.store; old != nil && old.client != client {
		old.close()
	}
	s.store, s.machine = st, <-asked
	s.tellMachine()
	return nil
}

// load reads the newest catalog and its menu. One that is older than what
// this session has seen, or the cache has, is refused.
func (s *session) load(ctx context.Context, client *mirror.Client) (*store, error) {
	src := s.newSource(client)
	c, err := catalog.Open(ctx, src, s.set.Anchor, catalog.Options{Now: time.Now(), Floor: s.floor(ctx)})
	if err != nil {
		if seen := tuf.Seen(err); seen != nil {
			s.seen = seen
		}
		return nil, part("catalog", err)
	}
	s.useMirrors(ctx, client, c)
	m, err := c.WholeMenu(ctx)
	if err != nil {
		return nil, part("menu", err)
	}
	s.line.mark("catalog")
	s.say("catalog %d, valid until %s", c.Version(), stamp(c.Expires()))
	return &store{client: client, source: src, catalog: c, menu: m}, nil
}

// needsNames tells whether one of the URLs has a host that is no address.
func needsNames(urls []string) bool {
	for _, u := range urls {
		p, err := url.Parse(u)
		if err != nil {
			continue
		}
		if _, err := netip.ParseAddr(p.Hostname()); err != nil {
			return true
		}
	}
	return false
}
