package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/database/databasetest"
	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// book is a Directory in memory.
type book struct {
	mu    sync.Mutex
	hosts map[string]Host
	seen  []string
	err   error
}

func (b *book) Lookup(_ context.Context, mac, _, _ string) (Host, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hosts[mac], b.err
}

func (b *book) Owner(a netip.Addr) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for mac, h := range b.hosts {
		if h.Address == a {
			return mac
		}
	}
	return ""
}

func (b *book) Seen(mac, _ string, k bootfile.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, mac+" "+k.String())
}

func (b *book) set(mac string, h Host) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts[mac] = h
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// site is an engine with what it stands on.
type site struct {
	t *testing.T
	*Engine
	book  *book
	clock *clock
}

var (
	serverAddr = netip.MustParseAddr("10.0.0.1")
	lanPrefix  = netip.MustParsePrefix("10.0.0.1/24")
	allFiles   = bootfile.Files{Base: "http://10.0.0.1:8080/boot/", BIOS: true, UEFI: true}
)

func openDB(t *testing.T) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openStore(t *testing.T, db *database.DB, shared bool) *Leases {
	t.Helper()
	s, err := OpenLeases(t.Context(), db, shared)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSite(t *testing.T, change func(*Config)) *site {
	t.Helper()
	s := &site{t: t, book: &book{hosts: map[string]Host{}}, clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	r, err := ParseRange("10.0.0.100-10.0.0.103,lease=1h")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Files: allFiles, Directory: s.book, Now: s.clock.Now}
	if change != nil {
		change(&c)
	}
	if c.Mode == Full && c.Store == nil {
		c.Store = openStore(t, openDB(t), false)
	}
	if s.Engine, err = New(c); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func mac(n int) string { return fmt.Sprintf("52:54:00:00:%02x:%02x", n>>8, n&255) }

func packet(t *testing.T, m string, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) []byte {
	t.Helper()
	hw, err := net.ParseMAC(m)
	if err != nil {
		t.Fatal(err)
	}
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return p.ToBytes()
}

// ask sends a request and returns the answer, nil for none.
func (s *site) ask(m string, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	s.t.Helper()
	return s.askAt(false, m, kind, mods...)
}

func (s *site) askAt(pxe bool, m string, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	s.t.Helper()
	r, err := Parse(packet(s.t, m, kind, mods...))
	if err != nil {
		s.t.Fatal(err)
	}
	var mu sync.Mutex
	var out []byte
	s.Handle(s.t.Context(), r, pxe, func(b []byte) { mu.Lock(); defer mu.Unlock(); out = b })
	mu.Lock()
	there := out != nil
	mu.Unlock()
	if !there {
		s.settle()
	}
	mu.Lock()
	defer mu.Unlock()
	if out == nil {
		return nil
	}
	p, err := dhcpv4.FromBytes(out)
	if err != nil {
		s.t.Fatalf("the answer cannot be read: %v", err)
	}
	if p.TransactionID != r.Packet.TransactionID || p.ClientHWAddr.String() != m || p.OpCode != dhcpv4.OpcodeBootReply {
		s.t.Fatalf("answer %v to %v", p.Summary(), r.Packet.Summary())
	}
	return p
}

// settle waits until probes are over and what they and the request caused to
// be written is.
func (s *site) settle() {
	for len(s.probes) > 0 {
		time.Sleep(time.Millisecond)
	}
	if s.writes == nil {
		return
	}
	done := make(chan struct{})
	s.writes.put(Lease{Address: netip.MustParseAddr("192.0.2.1"), Expires: s.clock.Now(), Changed: s.clock.Now()}, func(written) { close(done) })
	<-done
}

func withServer(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(a.AsSlice()))
}
func withRequested(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
}
func withAddress(a netip.Addr) dhcpv4.Modifier { return dhcpv4.WithClientIP(a.AsSlice()) }
func withClass(c string) dhcpv4.Modifier       { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(c)) }
func withArch(a byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{0, a})
}

// lease goes the whole way, and returns the acknowledgment.
func (s *site) lease(m string, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	s.t.Helper()
	offer := s.ask(m, dhcpv4.MessageTypeDiscover, mods...)
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer {
		s.t.Fatalf("%s: offer %v", m, offer)
	}
	ack := s.ask(m, dhcpv4.MessageTypeRequest, append(mods, withServer(serverAddr), withRequested(yours(offer)))...)
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(offer.YourIPAddr) {
		s.t.Fatalf("%s: offer %v, acknowledgment %v", m, offer, ack)
	}
	return ack
}

func yours(p *dhcpv4.DHCPv4) netip.Addr { return addrOf(p.YourIPAddr.To4()) }

func kindOf(p *dhcpv4.DHCPv4) string {
	if p == nil {
		return "none"
	}
	return p.MessageType().String()
}

func TestLeaseOverDays(t *testing.T) {
	db := openDB(t)
	store := openStore(t, db, false)
	r, err := ParseRange("10.0.0.100-10.0.0.103,lease=4h")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(c *Config) { c.Store = store; c.Ranges = []Range{r} })
	first := s.lease(mac(1))
	addr := yours(first)
	if got := first.IPAddressLeaseTime(0); got != 4*time.Hour {
		t.Errorf("lease of %v; want 4h", got)
	}
	// It renews every two hours for ten days, and keeps its address.
	for i := range 120 {
		s.clock.advance(2 * time.Hour)
		ack := s.ask(mac(1), dhcpv4.MessageTypeRequest, withAddress(addr))
		if kindOf(ack) != "ACK" || yours(ack) != addr {
			t.Fatalf("renewal %d: %v", i, ack)
		}
	}
	// Others fill the pool; there are four addresses.
	got := []netip.Addr{addr}
	for n := 2; n <= 4; n++ {
		got = append(got, yours(s.lease(mac(n))))
	}
	slices.SortFunc(got, netip.Addr.Compare)
	if want := "[10.0.0.100 10.0.0.101 10.0.0.102 10.0.0.103]"; fmt.Sprint(got) != want {
		t.Errorf("addresses %v; want %s", got, want)
	}
	if p := s.ask(mac(5), dhcpv4.MessageTypeDiscover); p != nil {
		t.Errorf("a full pool offers %v", yours(p))
	}
	// The second machine leaves, the others stay; then its address goes to the fifth.
	for range 3 {
		s.clock.advance(2 * time.Hour)
		for _, n := range []int{1, 3, 4} {
			if p := s.ask(mac(n), dhcpv4.MessageTypeRequest, withAddress(s.leased[holder{mac(n), lanPrefix.Masked()}])); kindOf(p) != "ACK" {
				t.Fatalf("machine %d: %v", n, p)
			}
		}
	}
	gone := s.leased[holder{mac(2), lanPrefix.Masked()}]
	if a := yours(s.lease(mac(5))); a != gone {
		t.Errorf("the fifth machine got %v; want %v, which has expired", a, gone)
	}
	// The old one is back and asks for what it had (INIT-REBOOT): it is not
	// listed, so it hears nothing.
	if p := s.ask(mac(2), dhcpv4.MessageTypeRequest, withRequested(gone)); p != nil {
		t.Errorf("an expired lease that another machine has: %v", kindOf(p))
	}
	// After a restart all is as before.
	again := newSite(t, func(c *Config) { c.Store = store; c.Now = s.clock.Now })
	if p := again.ask(mac(1), dhcpv4.MessageTypeRequest, withAddress(addr)); kindOf(p) != "ACK" {
		t.Errorf("after a restart: %v", kindOf(p))
	}
	if p := again.ask(mac(6), dhcpv4.MessageTypeDiscover); p != nil {
		t.Errorf("after a restart %v is offered, which somebody has", yours(p))
	}
	// A lease that was released is free at once.
	s.ask(mac(1), dhcpv4.MessageTypeRelease, withAddress(addr), withServer(serverAddr))
	if a := yours(s.lease(mac(6))); a != addr {
		t.Errorf("got %v; want %v, which was released", a, addr)
	}
}

func TestReservationsAndRefusals(t *testing.T) {
	s := newSite(t, nil)
	own, pooled := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.101")
	s.book.set(mac(1), Host{Known: true, Address: own, Name: "one"})
	s.book.set(mac(2), Host{Known: true, Address: pooled})
	s.book.set(mac(3), Host{Known: true, Denied: true})
	ack := s.lease(mac(1))
	if yours(ack) != own || ack.HostName() != "one" {
		t.Errorf("a reserved machine got %v, %q", yours(ack), ack.HostName())
	}
	var got []string
	for n := 10; n < 13; n++ {
		got = append(got, yours(s.lease(mac(n))).String())
	}
	slices.Sort(got)
	if want := []string{"10.0.0.100", "10.0.0.102", "10.0.0.103"}; !cmp.Equal(got, want) {
		t.Errorf("others got %v; want %v", got, want)
	}
	if yours(s.lease(mac(2))) != pooled {
		t.Error("a reserved address within the pool is not given to its machine")
	}
	if p := s.ask(mac(3), dhcpv4.MessageTypeDiscover); p != nil {
		t.Errorf("a denied machine got %v", kindOf(p))
	}
	if want := []string{mac(10) + " ordinary"}; !slices.Contains(s.book.seen, want[0]) || slices.Contains(s.book.seen, mac(1)+" ordinary") {
		t.Errorf("seen %v", s.book.seen)
	}
	foreign := netip.MustParseAddr("192.168.7.7")
	for _, c := range []struct {
		name string
		mac  string
		mods []dhcpv4.Modifier
		want string
	}{
		{"a known machine from another network", mac(1), []dhcpv4.Modifier{withRequested(foreign)}, "NAK"},
		{"a stranger from another network", mac(20), []dhcpv4.Modifier{withRequested(foreign)}, "none"},
		{"a stranger that wants a free address it never had", mac(20), []dhcpv4.Modifier{withRequested(netip.MustParseAddr("10.0.0.50"))}, "none"},
		{"a stranger renews what another has", mac(20), []dhcpv4.Modifier{withAddress(pooled)}, "none"},
		{"a known machine renews what another has", mac(2), []dhcpv4.Modifier{withAddress(own)}, "NAK"},
		{"it chose this server, but not its offer", mac(20), []dhcpv4.Modifier{withServer(serverAddr), withRequested(own)}, "NAK"},
		{"it chose another server", mac(1), []dhcpv4.Modifier{withServer(netip.MustParseAddr("10.0.0.2")), withRequested(own)}, "none"},
		{"a reserved machine after its restart", mac(1), []dhcpv4.Modifier{withRequested(own)}, "ACK"},
	} {
		if got := kindOf(s.ask(c.mac, dhcpv4.MessageTypeRequest, c.mods...)); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
	}
	// Another address is set for it: the next renewal sends it there.
	s.book.set(mac(1), Host{Known: true, Address: netip.MustParseAddr("10.0.0.10")})
	s.clock.advance(hostFresh)
	if got := kindOf(s.ask(mac(1), dhcpv4.MessageTypeRequest, withAddress(own))); got != "NAK" {
		t.Errorf("renewal of an address that is no longer its own: %s; want NAK", got)
	}
	if got := yours(s.lease(mac(1))).String(); got != "10.0.0.10" {
		t.Errorf("after that it got %s", got)
	}
}

func TestProbesAndDeclined(t *testing.T) {
	used := map[string]bool{}
	var probed []string
	s := newSite(t, func(c *Config) {
		c.Probe = func(_ context.Context, a netip.Addr, _ string) bool {
			probed = append(probed, a.String())
			return used[a.String()]
		}
	})
	a := yours(s.lease(mac(1)))
	if want := []string{a.String()}; !cmp.Equal(probed, want) {
		t.Errorf("probed %v; want %v, once", probed, want)
	}
	// All other addresses but one have a squatter.
	for n := 100; n < 104; n++ {
		used[fmt.Sprintf("10.0.0.%d", n)] = true
	}
	delete(used, "10.0.0.102")
	if a.String() == "10.0.0.102" {
		delete(used, "10.0.0.103")
	}
	b := yours(s.lease(mac(2)))
	if b == a || used[b.String()] {
		t.Errorf("offered %v, which is in use", b)
	}
	// The client itself finds it in use.
	s.ask(mac(2), dhcpv4.MessageTypeDecline, withServer(serverAddr), withRequested(b))
	if p := s.ask(mac(2), dhcpv4.MessageTypeDiscover); p != nil {
		t.Errorf("offered %v after all were declined or in use", yours(p))
	}
	// Nobody can decline what he was not given.
	s.ask(mac(3), dhcpv4.MessageTypeDecline, withServer(serverAddr), withRequested(a))
	if p := s.ask(mac(1), dhcpv4.MessageTypeRequest, withAddress(a)); kindOf(p) != "ACK" {
		t.Errorf("the lease of %v after another machine's DECLINE: %v", a, kindOf(p))
	}
	clear(used)
	s.clock.advance(declineTime + time.Second)
	if p := s.ask(mac(2), dhcpv4.MessageTypeDiscover); p == nil {
		t.Error("a declined address does not come back")
	}
}

// brokenStore fails, or hangs, when told to.
type brokenStore struct {
	Store
	mu   sync.Mutex
	err  error
	hang chan struct{}
}

func (b *brokenStore) Put(ctx context.Context, l []Lease) ([]bool, error) {
	b.mu.Lock()
	err, hang := b.err, b.hang
	b.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return nil, err
	}
	return b.Store.Put(ctx, l)
}

func (b *brokenStore) set(err error, hang chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.hang = err, hang
}

func TestDatabaseFails(t *testing.T) {
	b := &brokenStore{Store: openStore(t, openDB(t), false)}
	s := newSite(t, func(c *Config) { c.Store = b })
	own := netip.MustParseAddr("10.0.0.9")
	s.book.set(mac(1), Host{Known: true, Address: own})
	s.book.set(mac(2), Host{Known: true})
	old := yours(s.lease(mac(3)))
	s.ask(mac(2), dhcpv4.MessageTypeInform, withAddress(old)) // the directory has been asked once
	s.ask(mac(1), dhcpv4.MessageTypeInform, withAddress(old))
	s.clock.advance(20 * time.Minute)
	hang := make(chan struct{})
	for _, fail := range []string{"error", "no answer"} {
		if fail == "error" {
			b.set(errors.New("disk full"), nil)
		} else {
			b.set(nil, hang)
		}
		s.book.mu.Lock()
		s.book.err = errors.New("no database")
		s.book.mu.Unlock()
		ack := s.ask(mac(1), dhcpv4.MessageTypeRequest, withRequested(own))
		if kindOf(ack) != "ACK" || ack.IPAddressLeaseTime(0) != 12*time.Hour && ack.IPAddressLeaseTime(0) != time.Hour {
			t.Errorf("%s: a machine with its own address: %v", fail, ack)
		}
		if ack := s.lease(mac(2)); ack.IPAddressLeaseTime(0) != spareLease {
			t.Errorf("%s: a known machine got a lease of %v; want %v", fail, ack.IPAddressLeaseTime(0), spareLease)
		}
		// No more than what is on the disk.
		if ack := s.ask(mac(3), dhcpv4.MessageTypeRequest, withAddress(old)); kindOf(ack) != "ACK" || ack.IPAddressLeaseTime(0) != 40*time.Minute {
			t.Errorf("%s: a stranger's lease with 40 minutes left: %v", fail, ack)
		}
		offer := s.ask(mac(4), dhcpv4.MessageTypeDiscover)
		if offer == nil {
			t.Fatalf("%s: no offer", fail)
		}
		if ack := s.ask(mac(4), dhcpv4.MessageTypeRequest, withServer(serverAddr), withRequested(yours(offer))); ack != nil {
			t.Errorf("%s: a stranger got %v, which is on no disk", fail, kindOf(ack))
		}
	}
	b.set(nil, nil)
	s.book.mu.Lock()
	s.book.err = nil
	s.book.mu.Unlock()
	close(hang)
	for end := time.Now().Add(10 * time.Second); ; {
		ack := s.ask(mac(4), dhcpv4.MessageTypeRequest, withServer(serverAddr), withRequested(yours(s.ask(mac(4), dhcpv4.MessageTypeDiscover))))
		if kindOf(ack) == "ACK" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no leases after the database is back")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Two servers with one database, and two with a part of the addresses each,
// never give an address to two machines.
func TestTwoServers(t *testing.T) {
	for _, how := range []string{"shared database", "PostgreSQL", "parts"} {
		t.Run(how, func(t *testing.T) {
			db := openDB(t)
			if how == "PostgreSQL" {
				var err error
				if db, err = database.Open(t.Context(), databasetest.Postgres(t)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
			}
			var sites [2]*site
			for i := range sites {
				sites[i] = newSite(t, func(c *Config) {
					c.Server = address(number(serverAddr) + uint32(i))
					if how == "parts" {
						c.Part, c.Parts = i, 2
					} else {
						c.Store = openStore(t, db, true)
					}
				})
			}
			owner := map[string]string{}
			for n := range 8 {
				// Both hear the client, which takes one of the offers.
				offers := []*dhcpv4.DHCPv4{sites[0].ask(mac(n), dhcpv4.MessageTypeDiscover), sites[1].ask(mac(n), dhcpv4.MessageTypeDiscover)}
				o := offers[n%2]
				if o == nil {
					o = offers[1-n%2]
				}
				if o == nil {
					continue
				}
				var acks []*dhcpv4.DHCPv4
				for _, s := range sites {
					if p := s.ask(mac(n), dhcpv4.MessageTypeRequest, withServer(addrOf(o.ServerIdentifier().To4())), withRequested(yours(o))); kindOf(p) == "ACK" {
						acks = append(acks, p)
					}
				}
				if len(acks) > 1 {
					t.Errorf("both servers answered one request")
				}
				for _, p := range acks {
					if was := owner[yours(p).String()]; was != "" && was != mac(n) {
						t.Errorf("%v has been given to %s and %s", yours(p), was, mac(n))
					}
					owner[yours(p).String()] = mac(n)
				}
			}
			if len(owner) < 3 {
				t.Errorf("only %v were given", owner)
			}
			if how == "parts" {
				return
			}
			// The other server takes over a lease when the first is gone (REBINDING).
			for a, m := range owner {
				for i, s := range sites {
					if p := s.ask(m, dhcpv4.MessageTypeRequest, withAddress(netip.MustParseAddr(a))); kindOf(p) != "ACK" {
						t.Errorf("server %d, lease of %s: %s; want ACK", i, a, kindOf(p))
					}
				}
			}
		})
	}
}

func TestRelayAndPools(t *testing.T) {
	var ranges []Range
	for _, s := range []string{
		"10.0.0.100-10.0.0.109,clients=known", "10.0.0.110-10.0.0.119,clients=unknown,for=ordinary",
		"10.0.0.120-10.0.0.129,clients=unknown,for=bios+uefi,file=other.0",
		"10.9.0.10-10.9.0.20/16,router=10.9.0.1,dns=10.9.0.2+10.9.0.3,ntp=10.9.0.4,domain=far.example,search=far.example+example,mtu=1400,route=10.8.0.0/16:10.9.0.8",
	} {
		r, err := ParseRange(s)
		if err != nil {
			t.Fatal(err)
		}
		ranges = append(ranges, r)
	}
	s := newSite(t, func(c *Config) { c.Ranges = ranges; c.Options.Router = []netip.Addr{serverAddr} })
	s.book.set(mac(1), Host{Known: true})
	bios := []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0)}
	for _, c := range []struct {
		mac  int
		mods []dhcpv4.Modifier
		in   string
		file string
	}{
		{1, nil, "10.0.0.10", ""},
		{2, nil, "10.0.0.11", ""},
		{3, bios, "10.0.0.12", "other.0"},
		{1, bios, "10.0.0.10", bootfile.BIOS},
	} {
		p := s.lease(mac(c.mac), c.mods...)
		if !strings.HasPrefix(yours(p).String(), c.in) || p.BootFileName != c.file {
			t.Errorf("machine %d: %v, file %q; want %s*, %q", c.mac, yours(p), p.BootFileName, c.in, c.file)
		}
		if got := fmt.Sprint(p.Router(), p.SubnetMask()); got != "[10.0.0.1] ffffff00" {
			t.Errorf("router and mask %s", got)
		}
	}
	info := dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.AgentCircuitIDSubOption, []byte("port 7")))
	relay := []dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.IPv4(10, 9, 0, 1).To4()), dhcpv4.WithOption(info)}
	p := s.lease(mac(4), relay...)
	if !strings.HasPrefix(yours(p).String(), "10.9.0.") || !p.GatewayIPAddr.Equal(net.IPv4(10, 9, 0, 1)) {
		t.Errorf("through a relay: %v", p.Summary())
	}
	if got := p.Options.Get(dhcpv4.OptionRelayAgentInformation); !cmp.Equal(got, info.Value.ToBytes()) {
		t.Errorf("option 82 = %q", got)
	}
	type told struct{ Router, DNS, NTP, Mask, Domain, Search, Routes, MTU string }
	got := told{fmt.Sprint(p.Router()), fmt.Sprint(p.DNS()), fmt.Sprint(p.NTPServers()), p.SubnetMask().String(), p.DomainName(), fmt.Sprint(p.DomainSearch()), fmt.Sprint(p.ClasslessStaticRoute()), fmt.Sprint(p.Options.Get(dhcpv4.OptionInterfaceMTU))}
	want := told{"[10.9.0.1]", "[10.9.0.2 10.9.0.3]", "[10.9.0.4]", "ffff0000", "far.example", "far.example example", "route to 10.8.0.0/16 via 10.9.0.8, route to 0.0.0.0/0 via 10.9.0.1", "[5 120]"}
	got.Search = strings.Trim(got.Search, "&{}[]")
	if d := cmp.Diff(want.Router, got.Router) + cmp.Diff(want.DNS, got.DNS) + cmp.Diff(want.NTP, got.NTP) + cmp.Diff(want.Mask, got.Mask) + cmp.Diff(want.Domain, got.Domain) + cmp.Diff(want.MTU, got.MTU); d != "" {
		t.Errorf("options (-want +got):\n%s", d)
	}
	if !strings.Contains(got.Search, "far.example") || !strings.Contains(got.Routes, "10.8.0.0/16") || !strings.Contains(got.Routes, "0.0.0.0/0") {
		t.Errorf("search %q, routes %q", got.Search, got.Routes)
	}
	// A subnet that is not configured, and one that the relay names itself.
	if p := s.ask(mac(5), dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IPv4(10, 7, 0, 1).To4())); p != nil {
		t.Errorf("a subnet without a range got %v", yours(p))
	}
	link := dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{10, 9, 0, 0}))
	if p := s.ask(mac(5), dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IPv4(10, 7, 0, 1).To4()), dhcpv4.WithOption(link)); p == nil || !strings.HasPrefix(yours(p).String(), "10.9.0.") {
		t.Errorf("with a link selection: %v", p)
	}
}
