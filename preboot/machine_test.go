package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
)

// settingsKey is the settings key of a server.
func settingsKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// settingsServer is a server that says what holds for a machine, in a way that
// can be changed.
type settingsServer struct {
	t *testing.T

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r clientsettings.Request)
	posts  []string
	last   []byte // what was answered last
}

// tell makes the server answer with settings, signed with a key.
func (s *settingsServer) tell(key ed25519.PrivateKey, change func(*clientsettings.Answer)) {
	s.use(func(w http.ResponseWriter, r clientsettings.Request) {
		now := time.Now().Add(-1000 * time.Hour) // its clock is wrong
		a := &clientsettings.Answer{Format: clientsettings.Format, MAC: r.MAC, UUID: r.UUID, Host: r.Host, Nonce: r.Nonce, Issued: now, Expires: now.Add(time.Minute), Known: true}
		change(a)
		data, err := clientsettings.Sign(key, a)
		if err != nil {
			s.t.Error(err)
		}
		s.last = data
		_, _ = w.Write(data)
	})
}

func (s *settingsServer) use(f func(w http.ResponseWriter, r clientsettings.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *settingsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost && r.URL.Path == "/"+clientsettings.UnknownPath {
		data, err := io.ReadAll(r.Body)
		a, err2 := clientsettings.ParseAnnouncement(data)
		if err != nil || err2 != nil {
			s.t.Errorf("announced is %q: %v, %v", data, err, err2)
			return
		}
		s.posts = append(s.posts, a.MAC+" "+a.Name)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	q := r.URL.Query()
	req := clientsettings.Request{MAC: q.Get("mac"), UUID: q.Get("uuid"), Host: q.Get("host"), Nonce: q.Get("nonce")}
	if r.URL.Path != "/"+clientsettings.Path || req.Check() != nil {
		s.t.Errorf("the machine asks %s %s", r.Method, r.URL)
	}
	s.answer(w, req)
}

func kiosk(a *clientsettings.Answer) {
	a.Image = "tiny/1"
	a.Settings = &bootsettings.Settings{Format: bootsettings.Format, Hostname: "pc1", Cmdline: "quiet=no e1000e.IntMode=1", Environment: map[string]string{"ROOM": "12"}}
	a.Variables = map[string]string{"CLIENT_NAME": "pc1", "ROOM": "12"}
}

// A machine asks for its own settings and acts on what is signed with the key
// that it has been told; all else is said on the menu, which comes up in any case.
func TestSessionWithSettings(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t)
		return
	}
	serve := func(addr string, h http.Handler) {
		srv := httptest.NewUnstartedServer(h)
		srv.Listener.Close()
		srv.Listener = listenIn(t, server, addr)
		srv.Start()
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	}
	p := &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}}
	serve("10.77.0.1:8080", p)
	p.publish(t, 2, time.Now().Add(time.Hour), bytes.Repeat([]byte("no kernel "), 1000), []byte("no initrd"), -1)
	set := &settingsServer{t: t}
	serve("10.77.0.1:8081", set)
	cmdline := fmt.Sprintf("quiet ip=10.77.0.7::10.77.0.1:255.255.255.0::eth0:off inetboot.cache=none inetboot.url=%s inetboot.key=%x inetboot.settings=http://10.77.0.1:8081 inetboot.settings-key=%x",
		p.url, []byte(catalogtest.Key(firstKey).Public()), []byte(settingsKey(1).Public().(ed25519.PublicKey)))

	// Without a time the machine only stands on its entry.
	set.tell(settingsKey(1), kiosk)
	s, v, _ := startSession(t, cmdline)
	v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
	if text := v.text(); strings.Contains(text, "settings") {
		t.Errorf("the menu says something about settings:\n%s", text)
	}
	v.press(t, "\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	want := "inetboot: command line: image.option=1 entry.option=2 quiet=no e1000e.IntMode=1 quiet inetboot.boot=" + s.id
	if lines := strings.Join(s.con.Lines(), "\n"); !strings.Contains(lines, want) {
		t.Errorf("nothing says %q:\n%s", want, lines)
	}
	v.press(t, "\x1b")
	v.expect(t, "inetboot: failed: kernel", " >  1  Tiny Linux 1")

	// What does not count is said, and is not used.
	replayed := set.last
	for _, tt := range []struct {
		name, says string
		answer     func()
	}{
		{"another key", "refused: settings of this machine: the answer is not signed with the settings key", func() { set.tell(settingsKey(2), kiosk) }},
		{"a replayed answer", "refused: settings of this machine: the answer is for another request", func() {
			set.use(func(w http.ResponseWriter, _ clientsettings.Request) { _, _ = w.Write(replayed) })
		}},
		{"another machine's", "refused: settings of this machine: the answer is for another request", func() {
			set.tell(settingsKey(1), func(a *clientsettings.Answer) { kiosk(a); a.MAC = "52:54:00:00:00:01" })
		}},
		{"expired", "refused: settings of this machine: the answer has expired", func() {
			set.tell(settingsKey(1), func(a *clientsettings.Answer) { kiosk(a); a.Expires = a.Issued })
		}},
		{"no settings", "failed: settings of this machine: the server answers 404", func() {
			set.use(func(w http.ResponseWriter, _ clientsettings.Request) { http.Error(w, "none", http.StatusNotFound) })
		}},
		{"too long", "refused: settings of this machine", func() {
			set.use(func(w http.ResponseWriter, _ clientsettings.Request) {
				_, _ = w.Write(bytes.Repeat([]byte(" "), clientsettings.MaxSize+10))
			})
		}},
		{"silence", "failed: settings of this machine: http://10.77.0.1:8081 has not answered in 4s", func() {
			set.use(func(_ http.ResponseWriter, _ clientsettings.Request) {
				select {
				case <-time.After(6 * time.Second):
				case <-t.Context().Done():
				}
			})
		}},
	} {
		tt.answer()
		said := func() int { return strings.Count(strings.Join(s.con.Lines(), "\n"), tt.says) }
		before := said()
		v.press(t, ctrlR)
		// Words are not broken on the screen, but lines are.
		for end := time.Now().Add(60 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			text := strings.Join(strings.Fields(v.text()), " ")
			if said() > before && strings.Contains(text, "menu ready; "+tt.says) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the menu does not say %q:\n%s", tt.name, tt.says, v.text())
			}
		}
	}
	v.press(t, "\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	want = "inetboot: command line: image.option=1 entry.option=2 quiet inetboot.boot=" + s.id
	if lines := strings.Join(s.con.Lines(), "\n"); !strings.Contains(lines, want) {
		t.Errorf("without settings nothing says %q:\n%s", want, lines)
	}
	v.press(t, "\x1b")
	v.expect(t, " >  1  Tiny Linux 1")

	// What has expired by the time it is wanted is asked for anew.
	set.tell(settingsKey(1), func(a *clientsettings.Answer) { kiosk(a); a.Expires = a.Issued.Add(time.Nanosecond) })
	const from = "the settings of this machine are from"
	before := strings.Count(strings.Join(s.con.Lines(), "\n"), from)
	v.press(t, ctrlR)
	v.expect(t, "inetboot: menu ready")
	v.press(t, "\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	if lines := strings.Join(s.con.Lines(), "\n"); strings.Count(lines, from) != before+2 {
		t.Errorf("the settings were not asked for anew:\n%s", lines)
	}
	v.press(t, "\x1b")

	// With a time the entry of the settings starts by itself.
	zero := 0
	set.tell(settingsKey(1), func(a *clientsettings.Answer) { kiosk(a); a.Image, a.Entry, a.Timeout = "", "deep", &zero })
	s2, v2, _ := startSession(t, cmdline)
	v2.expect(t, "this could not be started", "failed: kernel")
	if lines := strings.Join(s2.con.Lines(), "\n"); !strings.Contains(lines, "starting deep") {
		t.Errorf("the entry of the settings was not started:\n%s", lines)
	}
	// They go with the handoff.
	set.tell(settingsKey(1), kiosk)
	loaded := make(chan []byte, 1)
	_, v6, _ := startSession(t, cmdline, func(s *session) {
		s.kexec.load = func(_, initrd *os.File, _ string) error {
			b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", initrd.Fd()))
			if err != nil {
				t.Error(err)
			}
			loaded <- b
			return errors.New("seen")
		}
	})
	v6.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
	v6.press(t, "\r")
	checkHandoff(t, <-loaded)
	v6.expect(t, "failed: kernel: seen")

	// A machine that is not known, and is made known.
	set.tell(settingsKey(1), func(a *clientsettings.Answer) { a.Known, a.SetupOnly, a.Entry = false, true, "setup" })
	s4, v4, _ := startSession(t, cmdline+" inetboot.entry=tiny-1 inetboot.timeout=0")
	v4.expect(t, "InetBoot: this machine is not known", "http://10.77.0.1:8081 does not know this machine", "inetboot: menu ready", " >  1  Make this machine known")
	mac := s4.machine.answer.MAC
	if text := v4.text(); strings.Contains(text, "Tiny") || !strings.Contains(text, mac) {
		t.Errorf("the menu of a machine that is not known:\n%s", text)
	}
	v4.press(t, "\t")
	v4.expect(t, "InetBoot: this machine", "Network settings")
	if text := v4.text(); strings.Contains(text, "URL") {
		t.Errorf("the tools of a machine that is not known:\n%s", text)
	}
	v4.press(t, "\x1b")
	v4.expect(t, " >  1  Make this machine known")
	v4.press(t, "\r")
	v4.expect(t, "make this machine known", "Tell the server")
	v4.press(t, "p c"+keyDown+"\r")
	v4.expect(t, "want small letters, digits and dashes")
	v4.press(t, keyClear+"PC-7"+keyDown+"\r")
	v4.expect(t, "this machine is announced to http://10.77.0.1:8081 as pc-7")
	set.mu.Lock()
	if len(set.posts) != 1 || set.posts[0] != mac+" pc-7" {
		t.Errorf("announced is %q; want %s pc-7", set.posts, mac)
	}
	set.mu.Unlock()
	set.tell(settingsKey(1), kiosk)
	v4.press(t, ctrlR)
	v4.expect(t, "Test menu", " >  1  Tiny Linux 1")
	// Its service's image starts by itself if the settings say so.
	set.tell(settingsKey(1), func(a *clientsettings.Answer) { a.Known, a.SetupOnly, a.Image, a.Timeout = false, true, "tiny", &zero })
	s5, v5, _ := startSession(t, cmdline)
	v5.expect(t, "this could not be started", "failed: kernel")
	if lines := strings.Join(s5.con.Lines(), "\n"); !strings.Contains(lines, "starting tiny-1") {
		t.Errorf("the image for setting up was not started:\n%s", lines)
	}
	// What the settings name is not in the menu.
	set.tell(settingsKey(1), func(a *clientsettings.Answer) { kiosk(a); a.Image = "tiny/2" })
	_, v3, _ := startSession(t, cmdline)
	v3.expect(t, "menu ready; settings of this machine: no entry of the menu starts", " >  1  Tiny Linux 1")
}

// checkHandoff looks for the settings of kiosk in what a target is given.
func checkHandoff(t *testing.T, initrd []byte) {
	t.Helper()
	at := bytes.Index(initrd, []byte(`{"format":"`+handoff.Format))
	if at < 0 {
		t.Fatalf("there is no handoff in %d bytes", len(initrd))
	}
	var raw json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(initrd[at:])).Decode(&raw); err != nil {
		t.Fatal(err)
	}
	h, err := handoff.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var want clientsettings.Answer
	kiosk(&want)
	if diff := cmp.Diff(want.Variables, h.Variables); diff != "" {
		t.Errorf("variables in the handoff (-want +got):\n%s", diff)
	}
	doc, err := want.Settings.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := storepath.Target(machineName, digest.Of(doc))
	if len(h.Settings) != 1 || h.Settings[0].Path != path || h.Settings[0].Blob != digest.BlobOf(doc) || !bytes.Contains(initrd, doc) || !bytes.Contains(initrd, []byte(strings.TrimPrefix(handoff.StorePath(path), "/"))) {
		t.Errorf("settings in the handoff: %+v; want %s, with its document", h.Settings, path)
	}
	for _, k := range h.Keep {
		if k.Path == path {
			t.Error("the cache is to keep what is in no store")
		}
	}
}

func TestMachineEntry(t *testing.T) {
	image := func(id, name, version string) catalog.Entry {
		return catalog.Entry{ID: id, Title: id, Image: catalog.ManifestName(name, version, "amd64")}
	}
	m := catalog.NewMenu("Menu")
	m.Entries = []catalog.Entry{image("debian-12", "debian", "12"), {ID: "more", Title: "more", Entries: []catalog.Entry{image("debian-13", "debian", "13"), image("debianette", "debianette", "1")}}, image("kiosk", "kiosk", "2")}
	for _, tt := range []struct{ entry, image, standard, want, missing string }{
		{"", "", "kiosk", "", ""},
		{"", "kiosk", "", "kiosk", ""},
		{"", "debian", "", "debian-13", ""},
		{"", "debian", "debian-12", "debian-12", ""},
		{"", "debian", "kiosk", "debian-13", ""},
		{"", "debian/12", "", "debian-12", ""},
		{"", "debian/14", "", "", "no entry of the menu starts the image debian/14"},
		{"kiosk", "debian", "", "kiosk", ""},
		{"gone", "debian", "", "debian-13", ""},
		{"gone", "", "", "", "the menu has no entry gone"},
	} {
		m.Default = tt.standard
		s := &session{store: &store{menu: m}, machine: machine{answer: &clientsettings.Answer{Entry: tt.entry, Image: tt.image}}}
		if id, missing := s.machineEntry(); id != tt.want || missing != tt.missing {
			t.Errorf("entry %q, image %q, default %q: %q, %q; want %q, %q", tt.entry, tt.image, tt.standard, id, missing, tt.want, tt.missing)
		}
	}
}

// Entries for setting up are the one with that id, with what is below it, and
// those with the image of the settings.
func TestSetupEntries(t *testing.T) {
	image := func(id, name string) catalog.Entry {
		return catalog.Entry{ID: id, Title: id, Image: catalog.ManifestName(name, "1", runtime.GOARCH)}
	}
	list := []catalog.Entry{image("debian", "debian"), {ID: "tools", Title: "Tools", Entries: []catalog.Entry{image("memory", "memtest"), {ID: "setup", Title: "Set up", Entries: []catalog.Entry{image("disk", "partition")}}}}, image("flash", "flash")}
	for image, want := range map[string]string{"": "setup", "flash/1": "setup flash", "memtest": "memory setup", "none": "setup"} {
		var got []string
		for _, e := range setupEntries(list, image) {
			got = append(got, e.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("with the image %q: %v; want %s", image, got, want)
		}
	}
}
