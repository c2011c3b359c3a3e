package main

import (
	"context"
	"crypto/rand"
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

// session is one machine's way from its first line to another kernel.
type session struct {
	con    *console.Set
	set    *settings.Settings
	net    *network.Network
	line   *timeline
	syslog *syslog.Sender
	id     string // of this boot
	store  *store

	cache  *cache.Search // nil: no cache is wanted
	cached cachedCatalog
	seen   *tuf.Trusted // what a catalog that was refused had verified before
	quiet  atomic.Bool  // the network is looked for behind a menu

	cacheShown bool // the menu knows what has become of the search for the cache
}

// store is an open store: what a menu can be shown from.
type store struct {
	client  *mirror.Client // nil if offline
	source  *cache.Source
	catalog *catalog.Catalog
	menu    *catalog.Menu
	proxy   string // that leads to the store; "": none
	offline string // why there is no network, and the cache is all there is; "": there is one
}

func runSession(ctx context.Context) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("name this boot: %w", err)
	}
	s := &session{con: console.New(), line: newTimeline(), id: fmt.Sprintf("%x", id)}
	s.syslog = syslog.New(s.id)
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
		Hardware:   func() string { return system.Adapters("/sys/bus") },
	})
	for ctx.Err() == nil {
		if s.net.Config() == nil {
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
	s.set, err = settings.Read(string(cmdline), os.DirFS("/"))
	for err != nil {
		text := "failed: settings: " + console.Printable(err.Error())
		s.say("%s", text)
		if ev := s.ask(ctx, "InetBoot: this medium does not know what to do", text, endItems(""), "", 0); ev.Picked == nil {
			return ctx.Err()
		}
	}
	return nil
}

// ask shows a small menu of the machine's own and carries out what ends the
// machine. It returns for everything else.
func (s *session) ask(ctx context.Context, title, text string, items []menu.Item, def string, seconds int) menu.Event {
	m := menu.New(menu.Options{Title: title, Items: items, Default: def, Timeout: seconds})
	m.Status("inetboot: " + text)
	for {
		ev := choose(ctx, s.con, m, nil)
		if ev.Picked == nil || ev.Picked.ID != rebootID && ev.Picked.ID != powerOffID {
			s.con.Scroll()
			return ev
		}
		if err := endMachine(s.con, ev.Picked.ID); err != nil {
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
		s.ask(ctx, "InetBoot: no store can be reached", explainAll(err), endItems("Try again"), retryID, pause)
	}
}

// openStore opens the store over the link of c.
func (s *session) openStore(ctx context.Context, c *network.Config) error {
	servers := s.set.Nameservers
	if len(servers) == 0 {
		servers = c.Resolvers(c.Link)
	}
	if len(servers) == 0 && needsNames(s.set.URLs) {
		s.say("the network on %s names no name server; give nameserver=... or a URL with an address", c.Link)
	}
	s.startLog(ctx, c, servers)
	proxies := []string{s.set.Proxy}
	if s.set.Proxy == "" && !s.set.NoProxy && c.Proxy != "" {
		// Nobody here has asked for the network's proxy.
		s.report("the network names the proxy " + c.Proxy)
		proxies = []string{c.Proxy, ""}
	}
	var err error
	for _, proxy := range proxies {
		if err = s.openStoreBy(ctx, c, servers, proxy); err == nil || ctx.Err() != nil {
			return err
		}
	}
	s.flushLog() // the link may lose its address now
	return err
}

// openStoreBy opens the store by way of a proxy, "": directly. If something
// seems to have expired, the clock is looked at before it is believed.
func (s *session) openStoreBy(ctx context.Context, c *network.Config, servers []netip.Addr, proxy string) error {
	client, err := mirror.New(s.set.URLs, mirror.Options{Proxy: proxy, CA: s.set.CA, Nameservers: servers})
	if err != nil {
		return part("settings", err)
	}
	client.SetOrder(s.remembered())
	for _, u := range client.URLs() {
		s.report(fmt.Sprintf("asking %s over %s", u, c.Link))
	}
	if len(client.URLs()) > 1 {
		client.Measure(ctx)
	}
	st, err := s.load(ctx, client)
	if aboutTime(err) {
		s.report(explain(err))
		if s.setClock(ctx, c, servers) {
			st, err = s.load(ctx, client)
		}
	}
	if err != nil {
		client.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.report(explain(err))
		return err
	}
	st.proxy = proxy
	s.store = st
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
