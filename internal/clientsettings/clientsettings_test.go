package clientsettings

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/bootsettings"
)

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func request() *Request {
	return &Request{MAC: "52:54:00:12:34:56", UUID: "4c4c4544-0043", Host: "pc1", Nonce: strings.Repeat("ab", nonceSize)}
}

func answer() *Answer {
	at, ten := time.Date(2026, 11, 27, 1, 0, 0, 0, time.UTC), 10
	r := request()
	return &Answer{
		Format: Format, MAC: r.MAC, UUID: r.UUID, Host: r.Host, Nonce: r.Nonce, Issued: at, Expires: at.Add(10 * time.Minute), Known: true, Image: "debian/12", Timeout: &ten,
		Settings:  &bootsettings.Settings{Format: bootsettings.Format, Hostname: "pc1", Cmdline: "quiet e1000e.Debug=1", Environment: map[string]string{"ROOM": "12"}},
		Variables: map[string]string{"ROOM": "12", "CLIENT_NAME": "pc1"},
	}
}

func TestSignAndOpen(t *testing.T) {
	data, err := Sign(testKey(1), answer())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(data, testKey(1).Public().(ed25519.PublicKey), request())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(answer(), got); diff != "" {
		t.Errorf("Open(Sign()) (-want +got):\n%s", diff)
	}
	if _, err := Open(data, testKey(2).Public().(ed25519.PublicKey), request()); !errors.Is(err, ErrSignature) {
		t.Errorf("with another key: %v; want ErrSignature", err)
	}
	// An answer to anything else is none.
	for name, change := range map[string]func(*Request){
		"nonce": func(r *Request) { r.Nonce = strings.Repeat("cd", nonceSize) },
		"mac":   func(r *Request) { r.MAC = "52:54:00:12:34:57" },
		"uuid":  func(r *Request) { r.UUID = "" },
		"host":  func(r *Request) { r.Host = "pc2" },
	} {
		r := request()
		change(r)
		if _, err := Open(data, testKey(1).Public().(ed25519.PublicKey), r); !errors.Is(err, ErrOther) {
			t.Errorf("another %s: %v; want ErrOther", name, err)
		}
	}
	// A changed byte of the payload.
	bad := bytes.Replace(data, []byte("debian/12"), []byte("debian/11"), 1)
	if _, err := Open(bad, testKey(1).Public().(ed25519.PublicKey), request()); !errors.Is(err, ErrSignature) {
		t.Errorf("a changed payload: %v; want ErrSignature", err)
	}
	// The key's signature of the payload alone is not that of an answer.
	payload, _ := json.Marshal(answer())
	plain, _ := json.Marshal(&envelope{string(payload), hex.EncodeToString(ed25519.Sign(testKey(1), payload))})
	if _, err := Open(plain, testKey(1).Public().(ed25519.PublicKey), request()); !errors.Is(err, ErrSignature) {
		t.Errorf("a signature without its first line: %v; want ErrSignature", err)
	}
}

func TestRefusals(t *testing.T) {
	minus, many := -2, make(map[string]string)
	for i := range maxVariables + 1 {
		many[fmt.Sprintf("V%d", i)] = ""
	}
	for name, change := range map[string]func(*Answer){
		"a script":         func(a *Answer) { a.Settings.Script = &bootsettings.Script{Text: "true"} },
		"files":            func(a *Answer) { a.Settings.Files = []bootsettings.File{{Path: "/etc/motd"}} },
		"keys":             func(a *Answer) { a.Settings.SSHKeys = map[string][]string{"root": {"ssh-ed25519 A"}} },
		"a control byte":   func(a *Answer) { a.Settings.Cmdline = "a\x1bb" },
		"a bad MAC":        func(a *Answer) { a.MAC = "52-54-00-12-34-56" },
		"an upper UUID":    func(a *Answer) { a.UUID = "4C" },
		"a short nonce":    func(a *Answer) { a.Nonce = "ab" },
		"a long time":      func(a *Answer) { a.Expires = a.Issued.Add(MaxValidity + 1) },
		"a bad timeout":    func(a *Answer) { a.Timeout = &minus },
		"a bad variable":   func(a *Answer) { a.Variables = map[string]string{"A-B": ""} },
		"a line break":     func(a *Answer) { a.Variables = map[string]string{"A": "x\nB=1"} },
		"many variables":   func(a *Answer) { a.Variables = many },
		"a long variable":  func(a *Answer) { a.Variables = map[string]string{"A": strings.Repeat("x", maxValue+1)} },
		"unknown features": func(a *Answer) { a.Requires = []string{"time-travel"} },
	} {
		a := answer()
		change(a)
		if data, err := Sign(testKey(1), a); err == nil {
			t.Errorf("%s: signed %s", name, data)
		}
		// And is refused where somebody has signed it all the same.
		payload, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(&envelope{string(payload), hex.EncodeToString(ed25519.Sign(testKey(1), signed(string(payload))))})
		r := &Request{a.MAC, a.UUID, a.Host, a.Nonce}
		if _, err := Open(data, testKey(1).Public().(ed25519.PublicKey), r); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	a := answer()
	a.Expires = a.Issued
	data, err := Sign(testKey(1), a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(data, testKey(1).Public().(ed25519.PublicKey), request()); !errors.Is(err, ErrExpired) {
		t.Errorf("an answer that never counts: %v; want ErrExpired", err)
	}
}

func TestShell(t *testing.T) {
	v := map[string]string{"B": `it's "$HOME" \ ` + "`x`", "A": "", "C_1": "ä ; rm -rf /"}
	text := Shell(v)
	if want := "A=''\nB='it'\\''s \"$HOME\" \\ `x`'\nC_1='ä ; rm -rf /'\n"; string(text) != want {
		t.Errorf("Shell() = %q; want %q", text, want)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", string(text)+`printf '%s|%s|%s' "$A" "$B" "$C_1"`)
	out, err := cmd.Output()
	if want := v["A"] + "|" + v["B"] + "|" + v["C_1"]; err != nil || string(out) != want {
		t.Errorf("sh reads %q, %v; want %q", out, err, want)
	}
}

func TestAnnouncement(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"mac":"52:54:00:12:34:56","name":"pc-7"}`:                                   true,
		`{"mac":"52:54:00:12:34:56","uuid":"4c4c","name":""}`:                         true,
		`{"mac":"52:54:00:12:34:56","name":"pc 7"}`:                                   false,
		`{"mac":"52:54:00:12:34:56","name":"-a"}`:                                     false,
		`{"mac":"52:54:00:12:34:56","name":"` + strings.Repeat("a", MaxName+1) + `"}`: false,
		`{"mac":"52:54:00:12:34:56","mac":"52:54:00:12:34:56","name":"a"}`:            false,
		`{"name":"a"}`: false,
		`[]`:           false,
	} {
		if _, err := ParseAnnouncement([]byte(text)); (err == nil) != ok {
			t.Errorf("ParseAnnouncement(%s) = %v; want taken: %t", text, err, ok)
		}
	}
}

func FuzzOpen(f *testing.F) {
	key := testKey(1)
	good, err := Sign(key, answer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(good), `{"format":"`+Format+`"}`)
	f.Add(`{"payload":"","signature":""}`, "{}")
	f.Fuzz(func(t *testing.T, data, payload string) {
		pub := key.Public().(ed25519.PublicKey)
		if a, err := Open([]byte(data), pub, request()); err == nil {
			if diff := cmp.Diff(answer(), a); diff != "" {
				t.Errorf("Open(%q) is another answer:\n%s", data, diff)
			}
		}
		// As if the payload were signed: what is taken can be signed again.
		signedData, err := json.Marshal(&envelope{payload, hex.EncodeToString(ed25519.Sign(key, signed(payload)))})
		if err != nil {
			t.Skip()
		}
		if a, err := Open(signedData, pub, request()); err == nil {
			if _, err := Sign(key, a); err != nil {
				t.Errorf("Open(%q) = %+v, which cannot be signed: %v", payload, a, err)
			}
		}
	})
}
