package configure

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// site has all that a site can have.
func site(f Format) Site {
	pool := func(first, last string, c Clients, kinds ...bootfile.Kind) Pool {
		return Pool{First: ip(first), Last: ip(last), Clients: c, Kinds: kinds}
	}
	special := pool("10.0.0.130", "10.0.0.139", Known, bootfile.PXEUEFI)
	special.File = "special.efi"
	special.Options.DNS = []netip.Addr{ip("10.0.0.53")}
	s := Site{
		Interface: "eth0", Server: ip("10.0.0.1"), Unknown: true, Lease: time.Hour,
		Files: bootfile.Files{Base: "http://10.0.0.1:8080/boot/", BIOS: true, UEFI: true, ARM64: bootfile.ARM64},
		Networks: []Network{{
			Subnet: netip.MustParsePrefix("10.0.0.0/24"),
			Options: Options{
				Router: []netip.Addr{ip("10.0.0.254")}, DNS: []netip.Addr{ip("10.0.0.5"), ip("10.0.0.6")}, NTP: []netip.Addr{ip("10.0.0.7")},
				Domain: "lan.example", Search: []string{"lan.example", "example"}, MTU: 1400, Routes: []Route{{netip.MustParsePrefix("10.8.0.0/16"), ip("10.0.0.8")}},
			},
			Pools: []Pool{
				special,
				pool("10.0.0.140", "10.0.0.149", Known, bootfile.PXEBIOS, bootfile.HTTPUEFI, bootfile.IPXE),
				pool("10.0.0.150", "10.0.0.159", Unknown, bootfile.PXEBIOS, bootfile.PXEUEFI, bootfile.HTTPUEFI, bootfile.IPXE),
				pool("10.0.0.160", "10.0.0.169", Unknown, bootfile.Ordinary, bootfile.PXEARM64),
			},
		}, {
			Subnet: netip.MustParsePrefix("10.9.0.0/24"), Options: Options{Router: []netip.Addr{ip("10.9.0.1")}, Lease: 10 * time.Minute},
		}},
		Hosts: []Host{
			{MAC: "52:54:00:00:00:01", Name: "pc1", Address: ip("10.0.0.51")},
			{MAC: "52:54:00:00:00:02", File: "own/boot.efi"},
			{MAC: "52:54:00:00:00:03", Local: true, Name: "pc3"},
			{MAC: "52:54:00:00:00:04", Denied: true},
			{MAC: "52:54:00:00:00:05"},
			{MAC: "52:54:00:00:00:06", Address: ip("10.9.0.6")},
		},
	}
	if f == Kea { // which has none of these for pools
		s.Networks[0].Pools[0].File = ""
	} else {
		s.Networks[0].Pools[1].Options.Lease = 5 * time.Minute
	}
	return s
}

func render(t *testing.T, f Format, s Site) *Config {
	t.Helper()
	tmpl, err := OpenTemplate(f, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Render(tmpl, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func need(t *testing.T, f Format) {
	t.Helper()
	if p := CheckCommand(f)("")[0]; p != "" {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
}

// What is written passes the program's own check, also where nothing but the
// network is known, and replaces a file only then.
func TestInstall(t *testing.T) {
	for _, f := range Formats() {
		t.Run(string(f), func(t *testing.T) {
			need(t, f)
			dir := t.TempDir()
			file := filepath.Join(dir, MainFile(f))
			link := filepath.Join(dir, "link")
			if err := os.WriteFile(file, []byte("# before\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, 0o640); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 {
				if err := os.Chown(file, 0, 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(file, link); err != nil {
				t.Fatal(err)
			}
			calls := 0
			var failing error
			in := &Install{File: link, Check: CheckCommand(f), Reload: func(context.Context) error {
				if calls++; calls%2 == 0 && failing != nil {
					return failing
				}
				return nil
			}}
			read := func(p string) string {
				b, err := os.ReadFile(p)
				if err != nil {
					t.Error(err)
				}
				return string(b)
			}
			bare := render(t, f, Site{Server: ip("10.0.0.1"), Files: bootfile.Files{UEFI: true}, Networks: []Network{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}})
			r, err := in.Run(t.Context(), bare.Text)
			if err != nil || !r.Changed || !r.Reloaded || r.Old != "# before\n" || read(file+"~") != "# before\n" || read(file) != bare.Text {
				t.Fatalf("Run = %+v, %v", r, err)
			}
			for _, p := range []string{file, file + "~"} {
				if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o640 {
					t.Errorf("%s: %v, %v; want mode 640", p, info.Mode(), err)
				}
			}
			if r, err := in.Run(t.Context(), bare.Text); err != nil || r.Changed || calls != 1 {
				t.Errorf("the same again: %+v, %v, %d reloads", r, err, calls)
			}
			full := render(t, f, site(f))
			if r, err := in.Prepare(t.Context(), full.Text); err != nil || !r.Changed || read(file) != bare.Text {
				t.Errorf("Prepare = %+v, %v", r, err)
			}
			if _, err := in.Run(t.Context(), full.Text+"\nnonsense {\n"); !errors.Is(err, ErrCheck) || strings.Contains(err.Error(), ".new-") || read(file) != bare.Text || read(file+"~") != "# before\n" {
				t.Errorf("what does not pass the check: %v", err)
			}
			// The program cannot take the new file: it gets the old one again.
			failing = errors.New("does not start")
			if r, err := in.Run(t.Context(), full.Text); !errors.Is(err, ErrReload) || !strings.Contains(err.Error(), "there again and loaded") || r.Changed || calls != 3 || read(file) != bare.Text {
				t.Errorf("a reload that fails: %+v, %v, %d reloads", r, err, calls)
			}
			failing = nil
			if r, err := in.Run(t.Context(), full.Text); err != nil || read(file) != full.Text || read(r.Backup) != bare.Text {
				t.Errorf("Run = %+v, %v", r, err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
				t.Errorf("left in the folder: %v, %v", left, err)
			}
			if len(full.Warnings) != 0 {
				t.Errorf("warnings %q", full.Warnings)
			}
			if d := cmp.Diff(full.Clients, ReadTable(full.Text)); d != "" {
				t.Error(d)
			}
		})
	}
}

// Programs that are started meanwhile have the folder's lock for a moment, which
// is no second writer.
func TestInstallWhileProgramsStart(t *testing.T) {
	in := &Install{File: filepath.Join(t.TempDir(), "file"), Mode: 0o644}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = exec.CommandContext(ctx, "true").Run()
		}
	}()
	defer func() { cancel(); <-done }()
	for i := range 300 {
		if _, err := in.Run(t.Context(), strings.Repeat("x", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// Values that would be more than values are refused in all formats.
func TestInjection(t *testing.T) {
	for _, bad := range []string{"a\"; deny booting; #", "a\nb", "a,b", "a b", "a;b", "a{b", `a\b`, "a'b", "a#b", "ä", strings.Repeat("a", 128)} {
		for name, change := range map[string]func(*Site){
			"file":      func(s *Site) { s.Hosts[1].File = bad },
			"pool":      func(s *Site) { s.Networks[0].Pools[0].File = bad },
			"URL":       func(s *Site) { s.Files.Base = bad },
			"name":      func(s *Site) { s.Hosts[0].Name = bad + strings.Repeat("x", 253) },
			"domain":    func(s *Site) { s.Networks[0].Options.Domain = bad + strings.Repeat("x", 253) },
			"search":    func(s *Site) { s.Networks[0].Options.Search = []string{bad + strings.Repeat("x", 253)} },
			"interface": func(s *Site) { s.Interface = bad },
			"MAC":       func(s *Site) { s.Hosts[0].MAC = bad },
		} {
			s := site(ISC)
			change(&s)
			if _, err := s.Validate(); err == nil {
				t.Errorf("%s %q is taken", name, bad)
			}
		}
	}
	for _, f := range Formats() {
		for _, bad := range []string{"x\"", "x\\", "x\n", "x#"} {
			tmpl, err := OpenTemplate(f, "", map[string]string{"LEASE": bad})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Render(tmpl, site(f)); f != Dnsmasq && (!errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "LEASE")) {
				t.Errorf("%s: value %q: %v", f, bad, err)
			}
		}
	}
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTemplate(t *testing.T) {
	dir := folder(t, map[string]string{
		"dhcpd.conf":            "# $GREETING ${GREETING}s cost $$5\n@top\n@FILE\n  @NETWORKS\n",
		"values":                "# values\nGREETING=hello\nFILE=more/text\nWHO=all\n",
		"top":                   "top of $WHO, $SERVER\n",
		"more/text":             "text\n\nof $GREETING\n",
		"network.conf":          "net $NUMBER $SUBNET/$NETMASK $WHO\n@local\n",
		"local":                 "common\n",
		"network0/local":        "of network 0\n",
		"network0/values":       "WHO=zero\n",
		"network1/network.conf": "another $CIDR $LEASE\n",
		"network2/values":       "SUBNET=172.16.0.0/16\nWHO=two\n",
	})
	tmpl, err := OpenTemplate(ISC, dir, map[string]string{"GREETING": "hi"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Render(tmpl, site(ISC))
	if err != nil {
		t.Fatal(err)
	}
	want := `# hi his cost $5
top of all, 10.0.0.1
text

of hi
  net 0 10.0.0.0/255.255.255.0 zero
  of network 0

  another 10.9.0.0/24 600

  net 2 172.16.0.0/255.255.0.0 two
  common
`
	got, _, _ := strings.Cut(c.Text, "\n\n# What machines are told")
	if d := cmp.Diff(want, got+"\n"); d != "" {
		t.Error(d)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no value":       {map[string]string{"dhcpd.conf": "a\n$NOTHING\n"}, "dhcpd.conf:2: $NOTHING has no value"},
		"no file":        {map[string]string{"dhcpd.conf": "@nothing\n"}, "dhcpd.conf:1: @nothing is neither"},
		"leads out":      {map[string]string{"dhcpd.conf": "@F\n", "values": "F=../../etc/passwd\n"}, "neither"},
		"circle":         {map[string]string{"dhcpd.conf": "@a\n", "a": "@a\n"}, "more than 8 deep"},
		"bare dollar":    {map[string]string{"dhcpd.conf": "cost: 5$ and $ 5\n"}, "dhcpd.conf:1: a $ without"},
		"gap":            {map[string]string{"dhcpd.conf": "\n", "network0/x": "", "network2/x": ""}, "no network1"},
		"no subnet":      {map[string]string{"dhcpd.conf": "\n", "network0/x": "", "network1/x": "", "network2/x": ""}, "network2/values lacks SUBNET"},
		"another subnet": {map[string]string{"dhcpd.conf": "\n", "network0/values": "SUBNET=10.1.0.0/24\n"}, "but the options say 10.0.0.0/24"},
		"bad values":     {map[string]string{"dhcpd.conf": "\n", "values": "A=1\nb=2\n"}, "values:2: want KEY=VALUE"},
	} {
		tmpl, err := OpenTemplate(ISC, folder(t, c.files), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Render(tmpl, site(ISC)); !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	// Doubling files stop before they fill the memory.
	files := map[string]string{"dhcpd.conf": strings.Repeat("@f0\n", 2000)}
	for i := range 5 {
		files["f"+string(rune('0'+i))] = strings.Repeat("@f"+string(rune('1'+i))+"\n", 2000)
	}
	files["f5"] = "x\n"
	if tmpl, err = OpenTemplate(ISC, folder(t, files), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Render(tmpl, site(ISC)); !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), "come out") {
		t.Errorf("doubling files: %v", err)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("$SERVER ${URL} $$ @\n@HOSTS\n  @NETWORKS\n")
	f.Add("@BOOT")
	f.Fuzz(func(t *testing.T, text string) {
		for _, format := range Formats() {
			tmpl := &Template{format: format, text: text}
			if c, err := Render(tmpl, site(format)); err == nil && !strings.Contains(c.Text, tableMark) {
				t.Error("no table")
			}
		}
	})
}

// What Kea does not have for pools is refused, not left out.
func TestKeaPools(t *testing.T) {
	tmpl, err := OpenTemplate(Kea, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Pool){
		"file=x":    func(p *Pool) { p.File = "x" },
		"one lease": func(p *Pool) { p.Options.Lease = time.Minute },
	} {
		s := site(Kea)
		change(&s.Networks[0].Pools[1])
		if _, err := Render(tmpl, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestCompare(t *testing.T) {
	before := render(t, ISC, site(ISC)).Clients
	s := site(ISC)
	s.Hosts[0].Address, s.Hosts[0].Name = ip("10.0.0.52"), "other"
	s.Hosts[1].File = ""
	s.Hosts[3].Denied = false
	s.Hosts = append(s.Hosts[:4], s.Hosts[5:]...)
	s.Hosts = append(s.Hosts, Host{MAC: "52:54:00:00:00:09", Name: "new"})
	want := []Reboot{
		{"52:54:00:00:00:01", []string{"address", "name"}}, {"52:54:00:00:00:02", []string{"boot file"}},
		{"52:54:00:00:00:04", []string{"boot file", "whether it is answered"}}, {"52:54:00:00:00:09", []string{"name"}},
	}
	if d := cmp.Diff(want, Compare(before, render(t, ISC, s).Clients)); d != "" {
		t.Error(d)
	}
	s = site(ISC)
	s.Files.Base = "http://10.0.0.9/boot/"
	if got := Compare(before, render(t, ISC, s).Clients); len(got) != 5 { // all but those without boot files
		t.Errorf("another URL: %v", got)
	}
	if got := Compare(nil, before); len(got) != 8 {
		t.Errorf("without a table: %v; want all", got)
	}
	if ReadTable("# nothing\n") != nil {
		t.Error("a table out of nothing")
	}
}
