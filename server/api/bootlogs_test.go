package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/server/boots"
)

func bootLog(id int, part, failure string) *bootlog.Report {
	return &bootlog.Report{
		BootID: fmt.Sprintf("%032x", id), Client: "52:54:00:12:34:56", Part: part, Failure: failure, Entry: "debian-12",
		Stages: []handoff.Stage{{Name: "init", Unix: 1}}, Lines: []bootlog.Line{{Unix: 1.7e12, Text: "InetBoot, amd64"}, {Unix: 1.7e12 + 5, Text: "last line of " + part}},
	}
}

// From a machine that does not get through to whoever asks why.
func TestBootLogs(t *testing.T) {
	var said syncBuffer
	f, pub, _ := bootFixture(t, slog.New(slog.NewTextHandler(&said, nil)))
	for _, r := range []*bootlog.Report{
		bootLog(1, bootlog.Preboot, ""), bootLog(1, bootlog.Target, "cannot start this image"), bootLog(2, bootlog.Preboot, "failed: kernel: no"), bootLog(2, bootlog.Preboot, ""),
	} {
		if err := bootlog.Post(t.Context(), http.DefaultClient, f.url, r); err != nil {
			t.Fatal(err)
		}
	}
	auth := []string{"Authorization", "Bearer " + token}
	get := func(query string) (boot []string) {
		t.Helper()
		resp, data := f.do(t, http.MethodGet, "/"+bootlog.Path+query, nil, auth...)
		var list struct {
			Logs []boots.Log `json:"logs"`
		}
		if err := json.Unmarshal(data, &list); err != nil || resp.StatusCode != http.StatusOK || list.Logs == nil {
			t.Fatalf("GET %s = %s %s: %v", query, resp.Status, data, err)
		}
		for _, l := range list.Logs {
			if l.Received.Before(time.Now().Add(-time.Minute)) || l.From != "127.0.0.1" || l.Lines != 2 || l.Entry != "debian-12" {
				t.Errorf("%+v", l)
			}
			boot = append(boot, l.BootID[31:]+l.Part+l.Failure)
		}
		return boot
	}
	for query, want := range map[string]string{
		"":                          "[2preboot 1targetcannot start this image 1preboot]",
		"?failed=1":                 "[1targetcannot start this image]",
		"?client=52:54:00:12:34:56": "[2preboot 1targetcannot start this image 1preboot]",
		"?client=52:54:00:12:34:57": "[]",
		"?failed=0&boot=" + fmt.Sprintf("%032x", 2): "[2preboot]",
	} {
		if got := fmt.Sprint(get(query)); got != want {
			t.Errorf("logs%s = %s; want %s", query, got, want)
		}
	}
	one := "/" + bootlog.Path + fmt.Sprintf("/%032x", 1)
	_, data := f.do(t, http.MethodGet, one, nil, append(auth, "Accept", "text/plain")...)
	if got, want := string(data), "2023-11-14T22:13:20.000Z preboot: InetBoot, amd64\n2023-11-14T22:13:20.005Z preboot: last line of preboot\n2023-11-14T22:13:20.000Z target: InetBoot, amd64\n2023-11-14T22:13:20.005Z target: last line of target\n"; got != want {
		t.Errorf("text = %q; want %q", got, want)
	}
	_, data = f.do(t, http.MethodGet, one, nil, auth...)
	for _, want := range []string{`"failure":"cannot start this image"`, `"log":[{"unix":1700000000000,"text":"InetBoot, amd64"}`, `"stages":[{"name":"init","unix":1}]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s has no %s", data, want)
		}
	}
	for _, tt := range []struct {
		path string
		want int
	}{{one[:len(one)-1] + "7", http.StatusNotFound}, {"/" + bootlog.Path + "/..", http.StatusNotFound}, {"/" + bootlog.Path + "?failed=yes", http.StatusBadRequest}} {
		if resp, _ := f.do(t, http.MethodGet, tt.path, nil, auth...); resp.StatusCode != tt.want {
			t.Errorf("GET %s = %s; want %d", tt.path, resp.Status, tt.want)
		}
	}
	for _, p := range []string{"/" + bootlog.Path, one} {
		if resp, _ := f.do(t, http.MethodGet, p, nil); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("GET %s without the token = %s; want 401", p, resp.Status)
		}
	}
	if s := said.String(); !strings.Contains(s, `level=WARN msg="boot failed" part=target client=52:54:00:12:34:56`) {
		t.Errorf("the server said\n%s", s)
	}

	// They are there again after a stop, but for what a crash has spoiled.
	dir := filepath.Join(filepath.Dir(f.dir), "boots")
	if err := os.WriteFile(filepath.Join(dir, "logs", strings.Repeat("0", 32)+"_target_127.0.0.1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := boots.Open(boots.Options{Dir: dir, Store: pub.Dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Logs(boots.LogQuery{}); len(got) != 3 || got[0].BootID != fmt.Sprintf("%032x", 2) {
		t.Errorf("after a stop: %+v", got)
	}
}

// Whoever sends what is no log, too much, or too often, is refused, and cannot
// make the server keep more than its bound.
func TestBootLogBounds(t *testing.T) {
	f, pub, _ := bootFixture(t, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		body string
		want int
	}{{"", 400}, {"{}", 400}, {strings.Repeat("[", bootlog.MaxBytes), 400}, {strings.Repeat(" ", bootlog.MaxBytes+1), 413}} {
		if resp, _ := f.do(t, http.MethodPost, "/"+bootlog.Path, strings.NewReader(tt.body)); resp.StatusCode != tt.want {
			t.Errorf("POST of %d bytes %.10q = %s; want %d", len(tt.body), tt.body, resp.Status, tt.want)
		}
	}
	last := 0
	for i := range 100 {
		data, err := bootLog(i, bootlog.Preboot, "").Marshal()
		if err != nil {
			t.Fatal(err)
		}
		resp, _ := f.do(t, http.MethodPost, "/"+bootlog.Path, io.Reader(strings.NewReader(string(data))))
		last = resp.StatusCode
		if last != http.StatusAccepted {
			break
		}
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the last of many logs: %d; want 429", last)
	}
	dir := t.TempDir()
	k, err := boots.Open(boots.Options{Dir: dir, Store: pub.Dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	add := func(i int, from string) {
		t.Helper()
		data, err := bootLog(i, bootlog.Target, "").Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := k.AddLog(t.Context(), remote(&http.Request{RemoteAddr: from + ":1"}), data); err != nil {
			t.Fatal(err)
		}
	}
	add(0, "10.0.0.1")
	for i := range boots.MaxLogShare + 10 {
		add(i+1, "10.0.0.2")
	}
	for i := range 3 * boots.MaxLogShare {
		add(1000+i, fmt.Sprintf("10.0.1.%d", i%3))
	}
	files, err := os.ReadDir(filepath.Join(dir, "logs"))
	if got := k.Logs(boots.LogQuery{}); err != nil || len(got) != boots.MaxLogs || len(files) != boots.MaxLogs {
		t.Errorf("%d logs in %d files; want %d: %v", len(got), len(files), boots.MaxLogs, err)
	}
	add(5000, "10.0.0.1")
	if got := k.Logs(boots.LogQuery{}); len(got) != boots.MaxLogs || got[0].From != "10.0.0.1" {
		t.Errorf("%d logs, the newest from %s", len(got), got[0].From)
	}
}
