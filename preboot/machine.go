package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/preboot/network"
)

// How long the server that says what holds for this machine may take, and the
// pause before it is asked again within that time.
const (
	machinePatience = 4 * time.Second
	machinePause    = 500 * time.Millisecond
)

// machine is what a server has said of this machine. The zero value: nothing.
type machine struct {
	answer *clientsettings.Answer // nil: there is none
	until  time.Time              // by this machine's monotonic clock
	why    string                 // why there is none; "": nobody was to be asked, or there is one
}

// errAnswer is wrapped when a server answers otherwise than with settings.
var errAnswer = errors.New("the server answers")

// machineName is what settings of this machine are called where those of the
// catalog have their targets' names.
const machineName = "settings/machine.json"

// askMachine begins to ask what holds for this machine, over the link of c. The
// answer is there after machinePatience at the latest.
func (s *session) askMachine(ctx context.Context, c *network.Config, client *http.Client) <-chan machine {
	out := make(chan machine, 1)
	if s.set.Server == "" {
		out <- machine{}
		return out
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, machinePatience)
		defer cancel()
		m, err := s.readMachine(ctx, c, client)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%s has not answered in %v: %w", s.set.Server, machinePatience, err)
		}
		if err != nil {
			m = machine{why: explain(part("settings of this machine", err))}
		}
		out <- m
	}()
	return out
}

// readMachine asks until there is an answer or the time is over.
func (s *session) readMachine(ctx context.Context, c *network.Config, client *http.Client) (machine, error) {
	for {
		// A question that has got no answer is not asked again: the next one has
		// another nonce.
		r := &clientsettings.Request{MAC: c.MAC, UUID: smbiosUUID("/sys/class/dmi/id/product_uuid"), Host: strings.ToLower(c.Hostname)}
		var err error
		if r.Nonce, err = clientsettings.NewNonce(); err != nil {
			return machine{}, err
		}
		if r.Check() != nil {
			r.Host = "" // what the network calls it is no name
		}
		data, again, err := getSettings(ctx, client, s.set.Server, r)
		if err == nil {
			came := time.Now()
			a, err := clientsettings.Open(data, s.set.ServerKey, r)
			if err != nil {
				return machine{}, err
			}
			return machine{answer: a, until: came.Add(a.Validity())}, nil
		}
		if !again {
			return machine{}, err
		}
		select {
		case <-time.After(machinePause):
		case <-ctx.Done():
			return machine{}, err
		}
	}
}

// getSettings sends one question. again tells whether another one may get an
// answer.
func getSettings(ctx context.Context, client *http.Client, base string, r *clientsettings.Request) (data []byte, again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/"+clientsettings.Path+"?"+r.Query().Encode(), nil)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("User-Agent", "inetboot")
	resp, err := client.Do(req)
	if err != nil {
		return nil, true, errors.New(judged(err)) // without the long URL
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("%w %s", errAnswer, resp.Status)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, clientsettings.MaxSize+1))
	return data, err != nil, err
}

// smbiosUUID reads the UUID that the firmware tells, "" if there is none.
func smbiosUUID(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	id := strings.ToLower(strings.TrimSpace(string(b)))
	if len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "" {
		return ""
	}
	return id
}

// tellMachine says on the consoles what has come of the question.
func (s *session) tellMachine() {
	switch a := s.machine.answer; {
	case s.machine.why != "":
		s.report(s.machine.why)
	case a == nil:
	case a.Known:
		s.report(fmt.Sprintf("the settings of this machine are from %s", s.set.Server))
	default:
		s.report(fmt.Sprintf("%s does not know this machine, %s", s.set.Server, a.MAC))
	}
}

// freshMachine asks anew if the answer does not count any more. Without a
// network there is nobody to ask, and what does not count is not used.
func (s *session) freshMachine(ctx context.Context) {
	m := &s.machine
	if m.answer == nil || time.Now().Before(m.until) {
		return
	}
	c := s.net.Config()
	if c == nil || s.store.client == nil {
		*m = machine{why: "the settings of this machine have expired, and there is no network to get them by"}
	} else {
		*m = <-s.askMachine(ctx, c, s.store.client.HTTP())
	}
	s.tellMachine()
}

// machineEntry returns the entry of the menu that the settings of this machine
// name; "": they name none. Of several versions of an image the menu's default
// is meant, else the one that stands last.
func (s *session) machineEntry() (id string, missing string) {
	a := s.machine.answer
	if a == nil {
		return "", ""
	}
	m := s.store.menu
	if a.Entry != "" && m.Find(a.Entry) != nil {
		return a.Entry, ""
	}
	if a.Image != "" {
		if e := m.Find(m.Default); e != nil && startsImage(e, a.Image) {
			return e.ID, ""
		}
		if e := lastOf(m.Entries, a.Image); e != nil {
			return e.ID, ""
		}
	}
	switch {
	case a.Entry == "" && a.Image == "", a.SetupOnly:
		return "", ""
	case a.Entry == "":
		return "", "no entry of the menu starts the image " + a.Image
	}
	return "", "the menu has no entry " + a.Entry
}

// startsImage tells whether an entry starts an image, NAME or NAME/VERSION, on
// this machine.
func startsImage(e *catalog.Entry, image string) bool {
	if e.Image == "" || e.Usable(runtime.GOARCH) != nil {
		return false
	}
	name, version, exact := strings.Cut(image, "/")
	if exact {
		return e.Image == catalog.ManifestName(name, version, runtime.GOARCH)
	}
	return strings.HasPrefix(e.Image, "images/"+name+"/") && strings.HasSuffix(e.Image, "/"+runtime.GOARCH+".json")
}

func lastOf(entries []catalog.Entry, image string) (found *catalog.Entry) {
	for i := range entries {
		e := &entries[i]
		if below := lastOf(e.Entries, image); below != nil {
			found = below
		} else if startsImage(e, image) {
			found = e
		}
	}
	return found
}

// machineNote says what is wrong with the settings of this machine, for the
// menu.
func (s *session) machineNote() string {
	_, missing := s.machineEntry()
	why := s.machine.why
	if why == "" && missing != "" {
		why = "settings of this machine: " + missing
	}
	return why
}

// machineDocument is settings of this machine as a document beside those of the
// catalog; nil: there is none.
func (s *session) machineDocument() (*catalog.SettingsFile, []byte, error) {
	a := s.machine.answer
	if a == nil || a.Settings == nil {
		return nil, nil, nil
	}
	data, err := a.Settings.Marshal()
	if err != nil {
		return nil, nil, part("settings of this machine", err)
	}
	b := digest.BlobOf(data)
	return &catalog.SettingsFile{Name: "of this machine, from " + cmp.Or(s.set.Server, "its server"), Path: storepath.Target(machineName, b.SHA256), Blob: b, Settings: a.Settings}, data, nil
}
