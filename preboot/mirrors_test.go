package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/settings"
)

// signedStore returns the files of a store whose catalog names mirrors, and
// where trust in it begins.
func signedStore(t *testing.T, urls ...string) (map[string][]byte, *catalog.Anchor) {
	t.Helper()
	menu, err := catalog.NewMenu("Menu").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	list := &catalog.MirrorList{Format: catalog.MirrorsFormat}
	for _, u := range urls {
		list.Mirrors = append(list.Mirrors, catalog.Mirror{URL: u})
	}
	mirrors, err := list.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	repo := catalogtest.New(t, catalogtest.Options{})
	repo.Publish(t, map[string][]byte{catalog.MenuName: menu, catalog.MirrorsName: mirrors})
	return repo.Files, repo.Anchor(t)
}

// The catalog's mirrors are measured and the nearest is used, also for what
// the target is told; a mirror that is away or silent costs a moment.
func TestCatalogMirrorsAreUsed(t *testing.T) {
	var far, near, silent mirrortest.Switch
	farURL, nearURL := mirrortest.Serve(t, &far).URL, mirrortest.Serve(t, &near).URL
	silentURL, absent := mirrortest.Serve(t, &silent).URL, mirrortest.Refusing(t)
	files, anchor := signedStore(t, nearURL, silentURL+"/", absent, farURL)
	far.Set(mirrortest.Late(150 * time.Millisecond)(mirrortest.Files(files)))
	near.Set(mirrortest.Files(files))
	silent.Set(mirrortest.Silent(nil))

	s := &session{con: console.New(), line: newTimeline(), set: &settings.Settings{URLs: []string{farURL}, Anchor: anchor}}
	defer s.con.Close()
	var client *mirror.Client
	var st *store
	soon(t, 3*time.Second, "load", func() time.Duration {
		var err error
		if client, err = mirror.New(s.set.URLs, mirror.Options{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		start := time.Now()
		if st, err = s.load(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	})
	urls := client.URLs()
	if len(urls) != 4 || urls[0] != nearURL || urls[3] != absent {
		t.Errorf("URLs() = %v; want all four, %s first, %s last", urls, nearURL, absent)
	}
	if line := mirrorLine(client.Measurements()); !strings.HasPrefix(line, "4 mirrors, nearest "+nearURL+" (") {
		t.Errorf("line on the console = %q", line)
	}

	// Without a network the target is told all that is known.
	s.store = st
	if diff := cmp.Diff([]string{farURL, nearURL, silentURL, absent}, s.offlineURLs(t.Context())); diff != "" {
		t.Errorf("offlineURLs() (-want +got):\n%s", diff)
	}
}

// What is wrong with the list of mirrors does not keep a machine from booting.
func TestBadMirrorList(t *testing.T) {
	files, anchor := signedStore(t, "http://m.example/")
	for p := range files {
		if strings.HasSuffix(p, "."+catalog.MirrorsName) {
			files[p] = []byte("tampered")
		}
	}
	url := mirrortest.Serve(t, mirrortest.Files(files)).URL
	s := &session{con: console.New(), line: newTimeline(), set: &settings.Settings{URLs: []string{url}, Anchor: anchor}}
	defer s.con.Close()
	client, err := mirror.New(s.set.URLs, mirror.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := s.load(t.Context(), client); err != nil || len(client.URLs()) != 1 {
		t.Errorf("load with a bad list of mirrors = %v, mirrors %v; want the store alone", err, client.URLs())
	}
}

// The root after the newest one, which is nowhere, is not waited for: not from
// mirrors that are away, and not from those that are silent.
func TestRootIsNotWaitedFor(t *testing.T) {
	var good, silent mirrortest.Switch
	files, anchor := signedStore(t)
	good.Set(mirrortest.Files(files))
	silent.Set(mirrortest.Silent(nil))
	for _, measure := range []bool{true, false} {
		soon(t, 2*time.Second, fmt.Sprintf("Open (measured before: %t)", measure), func() time.Duration {
			client, err := mirror.New([]string{mirrortest.Serve(t, &good).URL, mirrortest.Serve(t, &silent).URL, mirrortest.Refusing(t)}, mirror.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if measure {
				client.Measure(t.Context())
			}
			start := time.Now()
			if _, err := catalog.Open(t.Context(), client, anchor, catalog.Options{Now: time.Now()}); err != nil {
				t.Errorf("Open() with one good mirror of three = %v", err)
			}
			return time.Since(start)
		})
	}
}

// soon wants f to take no longer than limit, once in five times: what waits for
// a mirror that is silent does so each time, a busy machine does not.
func soon(t *testing.T, limit time.Duration, what string, f func() time.Duration) {
	t.Helper()
	var took time.Duration
	for range 5 {
		if took = f(); took <= limit {
			return
		}
	}
	t.Errorf("%s took %v", what, took)
}
