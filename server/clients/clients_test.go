package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/database/databasetest"
)

const school = `# a school
[default]
timezone = Europe/Vienna
argument = quiet
env.SITE = school

[unknown]
boot = preboot
entry = setup

[section slow]
swap = 512M
[type thin]
like = slow
module.e1000e = InterruptThrottleRate=0 IntMode=1
argument = nomodeset
locale = de_AT.UTF-8
[type default]
locale = C.UTF-8
[group room-1]
env.PRINTER = lp1
locale = fr_FR.UTF-8
[group room-2]
env.PRINTER = lp2
[group default]
env.PRINTER = none
[service kiosk]
image = kiosk/2
env.PRINTER = lp-kiosk
[service setup]
argument = setup=1

[52:54:00:*]
hostname = pc-{mac6}
swap = 1G
[52:54:00:12:*]
argument = glob
[52-54-00-12-34-56]
Type = thin
group = room-1, room-2
service = kiosk
name = pc1
address = 192.168.1.51
argument = own
swap = no
[pc1]
keyboard = de/nodeadkeys
hostname = by-name
[4c4c4544-0043-5210-8053-b4c04f4e3132]
boot = nbd
known = no
[pc-?]
known = yes
`

func book(t *testing.T, text string) *Book {
	t.Helper()
	list, err := Parse("clients.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBook(list, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPrecedence(t *testing.T) {
	b := book(t, school)
	known := Settings{
		Known: true, Name: "pc1", Address: netip.MustParseAddr("192.168.1.51"), Type: "thin", Groups: []string{"room-1", "room-2"}, Services: []string{"kiosk"},
		Boot: Preboot, Image: "kiosk/2", Arguments: []string{"quiet", "nomodeset", "glob", "own"},
		Modules: map[string]string{"e1000e": "InterruptThrottleRate=0 IntMode=1"}, Environment: map[string]string{"SITE": "school", "PRINTER": "lp-kiosk"},
		Hostname: "pc-{mac6}", Timezone: "Europe/Vienna", Locale: "fr_FR.UTF-8",
	}
	named := known
	named.Hostname, named.Keyboard = "by-name", "de/nodeadkeys"
	unknown := Settings{
		Type: "default", Groups: []string{"default"}, Services: []string{"setup"}, Boot: Preboot, Entry: "setup", Arguments: []string{"quiet", "setup=1"},
		Environment: map[string]string{"SITE": "school", "PRINTER": "none"}, Timezone: "Europe/Vienna", Locale: "C.UTF-8",
	}
	denied := unknown
	denied.Boot = NBD
	glob := Settings{Known: true, Boot: Preboot, Arguments: []string{"quiet"}, Environment: map[string]string{"SITE": "school"}, Timezone: "Europe/Vienna"}
	for _, c := range []struct {
		id   Identity
		want Settings
	}{
		{Identity{MAC: "52:54:00:12:34:56"}, known},
		{Identity{MAC: "52:54:00:12:34:56", Host: "PC1"}, named},
		{Identity{MAC: "00:00:00:00:00:01"}, unknown},
		{Identity{}, unknown},
		{Identity{MAC: "00:00:00:00:00:01", UUID: "4C4C4544-0043-5210-8053-B4C04F4E3132"}, denied},
		{Identity{Host: "pc-7"}, glob},
	} {
		got := b.Lookup(c.id)
		got.Origins = nil
		if d := cmp.Diff(c.want, got, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); d != "" {
			t.Errorf("Lookup(%+v) (-want +got):\n%s", c.id, d)
		}
	}
	got := b.Lookup(Identity{MAC: "52:54:00:12:34:56"})
	for key, want := range map[string]string{"image": "clients.conf:28", "argument": "clients.conf:4, clients.conf:16, clients.conf:37, clients.conf:44", "type": "clients.conf:39"} {
		if got.Origins[key] != want {
			t.Errorf("%s is from %q; want %q", key, got.Origins[key], want)
		}
	}
	if d := cmp.Diff([]string{"quiet", "nomodeset", "glob", "own", "e1000e.InterruptThrottleRate=0", "e1000e.IntMode=1"}, got.KernelArguments()); d != "" {
		t.Errorf("KernelArguments (-want +got):\n%s", d)
	}
}

// The database goes over the file, section by section.
func TestDatabaseOverFile(t *testing.T) {
	file, err := Parse("clients.conf", []byte("[default]\nlocale = C\ntimezone = UTC\n[pc1]\nlocale = de_DE\naddress = 10.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	stored := []Section{{Kind: Default, File: "database", Values: []Value{{Key: "timezone", Text: "Asia/Tokyo"}, {Key: "locale", Text: "ja_JP"}}}, {Kind: Client, Name: "pc1", File: "database", Values: []Value{{Key: "address", Text: "10.0.0.2"}}}}
	b, err := NewBook(file, stored)
	if err != nil {
		t.Fatal(err)
	}
	got := b.Lookup(Identity{Host: "pc1"})
	if got.Locale != "de_DE" || got.Timezone != "Asia/Tokyo" || got.Address.String() != "10.0.0.2" {
		t.Errorf("got %+v", got)
	}
	again, err := Parse("x", Format(b.Merged()))
	if err != nil {
		t.Fatal(err)
	}
	b2, err := NewBook(again, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := b2.Lookup(Identity{Host: "pc1"})
	got.Origins, other.Origins = nil, nil
	if d := cmp.Diff(got, other, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); d != "" {
		t.Errorf("the merged sections say something else (-want +got):\n%s", d)
	}
}

// Errors name each line.
func TestErrors(t *testing.T) {
	for text, wants := range map[string][]string{
		"timezone = UTC":                        {"f:1: timezone stands before the first section"},
		"[default\n[nonsense here]\n[pc1]\nx y": {"f:1: [default: ] is missing", "f:2: [nonsense here]", "f:4: x y: want NAME = VALUE"},
		"[default]\nlocal = x\nboot=maybe":      {`f:2: "local" is no setting`, "f:3: boot = maybe: want preboot"},
		"[pc1]\n[PC1]":                          {"f:2: [pc1] is there already, in f:1"},
		"[pc1]\nboot=nfs\nboot=nbd":             {"f:3: boot is set twice, first in line 2"},
		"[pc1]\naddress=10.0.0.1\n[52:54:00:12:34:56]\naddress=10.0.0.1": {"address 10.0.0.1 is that of", "f:2", "f:4"},
		"[pc1]\nname=a\n[pc2]\nname=a":                                   {"name a is that of [pc1], too, in f:2"},
		"[section a]\nlike=b\n[section b]\nlike=a":                       {"goes in a circle"},
		"[section a]\nlike=c":                                            {"f:2: like = c: there is no section [section c]"},
		"[pc1]\ntype = fat":                                              {"f:2: type = fat: there is no section [type fat]"},
		"[type x]\ngroup = y":                                            {"f:2: group does not belong into a section of a type"},
		"[pc-*]\nname = a":                                               {"f:2: name belongs into a section of one client"},
		"[52:54:00:[*]\n":                                                {"f:1: [52:54:00:[*] is no pattern"},
		"[pc1]\nfile = ../etc/passwd":                                    {"f:2: file = ../etc/passwd: want a path below"},
		"[pc1]\nenv.A-B = 1\nmodule = x\nswap = 9Z":                      {"f:2: env.A-B", "f:3: module", "f:4: swap = 9Z"},
		"[pc1]\nargument = a\x01b\n[\xff]":                               {"f:3: not UTF-8"},
		"[type a b]":                                                     {"f:1: [type a b]: want a name"},
	} {
		list, err := Parse("f", []byte(text))
		if err == nil {
			_, err = NewBook(list, nil)
		}
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v; want ErrInvalid", text, err)
			continue
		}
		for _, w := range wants {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v; want %q", text, err, w)
			}
		}
	}
	var long strings.Builder
	for i := range 20 {
		fmt.Fprintf(&long, "[section s%d]\nlike = s%d\n", i, i+1)
	}
	list, err := Parse("f", []byte(long.String()+"[section s20]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewBook(list, nil); err == nil || !strings.Contains(err.Error(), "a chain of more than") {
		t.Errorf("a long chain of like: %v", err)
	}
}

func TestParseMAC(t *testing.T) {
	for in, want := range map[string]string{
		"52:54:00:AB:cd:ef": "52:54:00:ab:cd:ef", "52-54-00-ab-cd-ef": "52:54:00:ab:cd:ef", "5254.00ab.cdef": "52:54:00:ab:cd:ef", "525400ABCDEF": "52:54:00:ab:cd:ef",
		"52:54:00:ab:cd": "", "52:54-00:ab:cd:ef": "", "5254.00ab:cdef": "", "zz5400abcdef": "", "52:54:00:ab:cd:e": "", "": "",
	} {
		if got, ok := ParseMAC(in); got != want && (ok || want != "") {
			t.Errorf("ParseMAC(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}

// Machines that are not known are recorded, bounded, and one change makes one
// known to a server that runs.
func TestRecords(t *testing.T) {
	for name, dsn := range map[string]func(*testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "server.db") },
		"postgres": databasetest.Postgres,
	} {
		t.Run(name, func(t *testing.T) { records(t, dsn(t)) })
	}
}

func records(t *testing.T, dsn string) {
	db, err := database.Open(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	file := filepath.Join(t.TempDir(), "clients.conf")
	c, err := Open(t.Context(), Options{DB: db, File: file, Unknown: SetupUnknown, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	const mac = "52:54:00:00:00:01"
	first := time.Unix(1700000000, 0)
	if err := c.record(t.Context(), Sighting{Identity: Identity{MAC: mac, Host: "a\x1b[31m"}, What: "UEFI x64", Time: first}); err != nil {
		t.Fatal(err)
	}
	if err := c.record(t.Context(), Sighting{Identity: Identity{MAC: mac}, Address: netip.MustParseAddr("10.0.0.9"), Time: first.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	got, err := Seen(t.Context(), db)
	want := []Record{{MAC: mac, Host: "a?[31m", Address: "10.0.0.9", What: "UEFI x64", First: first.UTC(), Last: first.Add(time.Hour).UTC()}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("records %v (-want +got):\n%s", err, d)
	}
	if s, err := c.Lookup(t.Context(), Identity{MAC: mac}); err != nil || s.Known || s.Entry != SetupEntry {
		t.Errorf("Lookup before = %+v, %v; want the setup entry", s, err)
	}
	if err := Put(t.Context(), db, nil, Section{Kind: Client, Name: mac, Values: []Value{{Key: "image", Text: "debian"}}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Lookup(t.Context(), Identity{MAC: mac}); err != nil || !s.Known || s.Image != "debian" || s.Entry != "" {
		t.Errorf("Lookup after = %+v, %v; want it known", s, err)
	}
	// What makes no whole is not stored.
	if err := Put(t.Context(), db, nil, Section{Kind: Client, Name: "pc2", Values: []Value{{Key: "type", Text: "none"}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("Put of a client with a type that is not there = %v; want ErrInvalid", err)
	}
	if stored, err := Stored(t.Context(), db); err != nil || len(stored) != 1 {
		t.Errorf("stored: %v, %v; want one section", stored, err)
	}
	// A file with an error, and a database that is away, change nothing.
	if err := os.WriteFile(file, []byte("[broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Reload(t.Context()); !errors.Is(err, ErrInvalid) {
		t.Errorf("Reload with a broken file = %v; want ErrInvalid", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Reload(gone); err == nil {
		t.Error("Reload without a database succeeded")
	}
	if s, err := c.Lookup(t.Context(), Identity{MAC: mac}); err != nil || !s.Known {
		t.Errorf("Lookup meanwhile = %+v, %v; want it known", s, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), db, nil, Client, mac); err != nil {
		t.Error(err)
	}
	if err := Remove(t.Context(), db, nil, Client, mac); !errors.Is(err, ErrNotStored) {
		t.Errorf("second Remove = %v; want ErrNotStored", err)
	}
}

// Whoever invents machines does not fill the database.
func TestRecordsAreBounded(t *testing.T) {
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := Open(t.Context(), Options{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	c.keep = 2 * recordBatch
	n := 0
	for batch := range 2 {
		for range 2 * seenWaiting { // more than wait for the database
			c.Seen(Sighting{Identity: Identity{MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", n>>16, n>>8&255, n&255)}, Time: time.Unix(int64(batch), 0)})
			n++
		}
		if len(c.seen) != seenWaiting {
			t.Errorf("%d sightings wait; want %d", len(c.seen), seenWaiting)
		}
		for range 3 {
			if err := c.record(t.Context(), <-c.seen); err != nil {
				t.Fatal(err)
			}
		}
		for len(c.seen) > 0 {
			<-c.seen
		}
	}
	if got, err := Seen(t.Context(), db); err != nil || len(got) != c.keep || got[0].Last.Unix() != 1 {
		t.Errorf("%d records, %v; want the %d newest", len(got), err, c.keep)
	}
}
