package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/keyfile"
	"github.com/inetboot/inetboot/server/api"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/setup"
	"github.com/inetboot/inetboot/server/store"
)

const clientsConf = `[default]
argument = quiet
env.SITE = school
[service setup]
image = setup
argument = setup=1
[service kiosk]
image = kiosk/2
timeout = 5
[unknown]
service = visitors
[service visitors]
argument = visitor=1
[52:54:00:12:34:56]
service = kiosk
name = pc1
timezone = Europe/Vienna
keyboard = de/nodeadkeys
module.e1000e = InterruptThrottleRate=0 IntMode=1
env.ROOM = it's 12
[52:54:00:00:00:99]
argument = ` + "too long %s" + `
`

// settingsServer serves machines' settings as `server --lan` does.
func settingsServer(t *testing.T, policy clients.Policy) (url string, key ed25519.PrivateKey, known *clients.Clients, db *database.DB) {
	t.Helper()
	data := t.TempDir()
	folder, err := setup.Open(data, setup.Source{}, setup.Passphrase{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	db, err = database.Open(t.Context(), filepath.Join(data, "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	file := filepath.Join(data, "clients.conf")
	if err := os.WriteFile(file, []byte(strings.Replace(clientsConf, "%s", strings.Repeat("x", 989), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	known, err = clients.Open(t.Context(), clients.Options{DB: db, File: file, Unknown: policy, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := store.Open(folder.Store(), folder.Temp(), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	keeper, err := boots.Open(boots.Options{Dir: folder.Boots(), Store: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(api.New(api.Options{Store: dir, Boots: keeper, Token: folder.Token, Machines: (&lanSet{clients: known, log: log}).machines(), Settings: folder.Settings, Log: log}))
	t.Cleanup(web.Close)
	f, err := keyfile.Read(setup.SettingsKeyIn(data))
	if err != nil || !f.Public.Equal(folder.Settings.Public()) || f.Public.Equal(folder.Online.Public()) {
		t.Fatalf("the settings key in the data folder: %v", err)
	}
	return web.URL, folder.Settings, known, db
}

func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, b
}

// ask asks for the settings of a machine as preboot does.
func ask(t *testing.T, url string, key ed25519.PrivateKey, mac string) *clientsettings.Answer {
	t.Helper()
	nonce, err := clientsettings.NewNonce()
	if err != nil {
		t.Fatal(err)
	}
	r := &clientsettings.Request{MAC: mac, UUID: "4c4c4544-0043-5210-8053-b4c04f4e3132", Nonce: nonce}
	code, h, data := get(t, url+"/"+clientsettings.Path+"?"+r.Query().Encode())
	if code != 200 || h.Get("Cache-Control") != "no-store" {
		t.Fatalf("settings of %s: %d, %v, %s", mac, code, h, data)
	}
	a, err := clientsettings.Open(data, key.Public().(ed25519.PublicKey), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A machine gets what holds for it, signed with the server's key, and scripts
// get it to read.
func TestMachineSettings(t *testing.T) {
	url, key, _, _ := settingsServer(t, clients.BootUnknown)
	five := 5
	got := ask(t, url, key, "52:54:00:12:34:56")
	if v := got.Validity(); v != 10*time.Minute || time.Since(got.Issued) > time.Minute {
		t.Errorf("it counts for %v from %v", v, got.Issued)
	}
	want := &clientsettings.Answer{
		Format: clientsettings.Format, MAC: got.MAC, UUID: got.UUID, Nonce: got.Nonce, Issued: got.Issued, Expires: got.Expires,
		Known: true, Image: "kiosk/2", Timeout: &five,
		Settings: &bootsettings.Settings{
			Format: bootsettings.Format, Hostname: "pc1", Timezone: "Europe/Vienna", Keyboard: &bootsettings.Keyboard{Layout: "de", Variant: "nodeadkeys"},
			Cmdline: "quiet e1000e.InterruptThrottleRate=0 e1000e.IntMode=1", Environment: map[string]string{"SITE": "school", "ROOM": "it's 12"},
		},
		Variables: map[string]string{
			"CLIENT_MAC": "52:54:00:12:34:56", "CLIENT_KNOWN": "yes", "CLIENT_NAME": "pc1", "CLIENT_HOSTNAME": "pc1", "CLIENT_SERVICES": "kiosk", "CLIENT_IMAGE": "kiosk/2", "CLIENT_TIMEOUT": "5",
			"CLIENT_BOOT": "preboot", "CLIENT_ARGUMENTS": "quiet e1000e.InterruptThrottleRate=0 e1000e.IntMode=1", "CLIENT_TIMEZONE": "Europe/Vienna", "CLIENT_KEYBOARD": "de/nodeadkeys",
			"SITE": "school", "ROOM": "it's 12",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}
	for _, mac := range []string{"52:54:00:12:34:56", "52-54-00-12-34-56", "525400123456"} {
		code, h, text := get(t, url+"/settings/"+mac)
		if code != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || !bytes.Equal(text, clientsettings.Shell(want.Variables)) {
			t.Errorf("settings/%s = %d, %q", mac, code, text)
		}
	}
	for path, want := range map[string]int{
		"/settings/pc1":           404,
		"/" + clientsettings.Path: 400,
		"/" + clientsettings.Path + "?mac=52:54:00:12:34:56":                   400,
		"/" + clientsettings.Path + "?mac=x&nonce=" + want32():                 400,
		"/" + clientsettings.Path + "?mac=52:54:00:00:00:99&nonce=" + want32(): 422, // longer than a kernel takes
	} {
		if code, _, text := get(t, url+path); code != want {
			t.Errorf("%s = %d %s; want %d", path, code, text, want)
		}
	}
	// Machines that nobody has set up.
	a := ask(t, url, key, "52:54:00:00:00:01")
	if a.Known || a.SetupOnly || a.Image != "setup" || a.Settings.Cmdline != "quiet visitor=1 setup=1" || a.Variables["CLIENT_SERVICES"] != "visitors setup" {
		t.Errorf("a machine that is not known gets %+v, settings %+v", a, a.Settings)
	}
}

func want32() string { return strings.Repeat("ab", 16) }

// Somebody at a machine that is not known says its name, and one command makes
// it known by that.
func TestAnnouncement(t *testing.T) {
	url, key, known, db := settingsServer(t, clients.SetupUnknown)
	go known.Run(t.Context())
	const mac = "52:54:00:00:00:07"
	if a := ask(t, url, key, mac); a.Known || !a.SetupOnly || a.Entry != clients.SetupEntry || a.Image != "setup" {
		t.Errorf("with --unknown setup the machine gets %+v", a)
	}
	post := func(text string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/"+clientsettings.UnknownPath, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode
	}
	for text, want := range map[string]int{
		`{"mac":"` + mac + `","name":"pc7"}`:                                                         202,
		`{"mac":"` + mac + `","name":"PC 7"}`:                                                        400,
		`{"mac":"52:54:00:12:34:56","name":"pc1"}`:                                                   409,
		`{"mac":"` + mac + `","name":"` + strings.Repeat("a", clientsettings.MaxAnnouncement) + `"}`: 413,
	} {
		if got := post(text); got != want {
			t.Errorf("POST %.80s = %d; want %d", text, got, want)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		seen, err := clients.Seen(t.Context(), db)
		if err == nil && len(seen) == 1 && seen[0].MAC == mac && seen[0].Wanted == "pc7" && seen[0].Address == "127.0.0.1" && seen[0].UUID != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("recorded are %+v, %v", seen, err)
		}
	}
}

func TestPromoteByWantedName(t *testing.T) {
	data := t.TempDir()
	db, err := database.Open(t.Context(), filepath.Join(data, "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	known, err := clients.Open(t.Context(), clients.Options{DB: db, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const mac = "52:54:00:00:00:07"
	known.Seen(clients.Sighting{Identity: clients.Identity{MAC: mac}, Wanted: "pc7"})
	go known.Run(t.Context())
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if seen, err := clients.Seen(t.Context(), db); err == nil && len(seen) == 1 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("recorded are %+v, %v", seen, err)
		}
	}
	command := func(args ...string) string {
		t.Helper()
		var out strings.Builder
		if err := run(t.Context(), append(args, "--data", data), &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if out := command("clients", "list"); !strings.Contains(out, "wants to be pc7") {
		t.Errorf("list = %s", out)
	}
	command("clients", "promote", mac, "timeout=0")
	if out := command("clients", "show", mac); !strings.Contains(out, "timeout") || !strings.Contains(out, "pc7") {
		t.Errorf("show = %s", out)
	}
	if out := command("clients", "show", mac, "--json"); !strings.Contains(out, `"name": "pc7"`) && !strings.Contains(out, `"name":"pc7"`) {
		t.Errorf("show = %s", out)
	}
}

func TestSettingsKeyCommand(t *testing.T) {
	data := t.TempDir()
	if err := run(t.Context(), []string{"settings-key", "--data", data}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "first start") {
		t.Errorf("before the first start: %v", err)
	}
	folder, err := setup.Open(data, setup.Source{}, setup.Passphrase{Value: []byte("a long passphrase")})
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	var out strings.Builder
	if err := run(t.Context(), []string{"settings-key", "--data", data, "--url", "http://boot:8080"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if want := "inetboot.settings=http://boot:8080\ninetboot.settings-key=" + hex.EncodeToString(folder.Settings.Public().(ed25519.PublicKey)) + "\n"; out.String() != want {
		t.Errorf("settings-key = %q; want %q", out.String(), want)
	}
	if fi, err := os.Stat(setup.SettingsKeyIn(data)); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", fi, err)
	}
	if err := run(t.Context(), []string{"settings-key", "--data", data, "--url", "boot"}, io.Discard, io.Discard); err == nil {
		t.Error("a URL that is none is taken")
	}
}
