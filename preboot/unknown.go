package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/menu"
)

// setupEntry is the id of the entry for machines that nobody has set up. As a
// submenu it is all that is below it.
const setupEntry = "setup"

// announceID is the id of the item that announces this machine.
const announceID = "announce-this-machine"

// announcePatience is how long the server may take for an announcement.
const announcePatience = 5 * time.Second

// onlySetup tells whether this machine gets the entries for setting up alone.
func (s *session) onlySetup() bool { return s.machine.answer != nil && s.machine.answer.SetupOnly }

// entries returns the menu's entries that this machine gets.
func (s *session) entries() []catalog.Entry {
	if !s.onlySetup() {
		return s.store.menu.Entries
	}
	return setupEntries(s.store.menu.Entries, s.machine.answer.Image)
}

// setupEntries returns the entries for setting up: the one with that id, and
// those that start the image which the settings name.
func setupEntries(entries []catalog.Entry, image string) []catalog.Entry {
	var out []catalog.Entry
	for i := range entries {
		e := &entries[i]
		if e.ID == setupEntry || image != "" && startsImage(e, image) {
			out = append(out, *e)
			continue
		}
		out = append(out, setupEntries(e.Entries, image)...)
	}
	return out
}

// setupDefaults returns where the menu of a machine that is not known stands.
// Only what its settings say starts by itself.
func (s *session) setupDefaults() standing {
	a := s.machine.answer
	id, _ := s.machineEntry()
	if id == "" || a.Timeout == nil {
		return standing{announceID, -1}
	}
	return standing{id, *a.Timeout}
}

// setupText says what is the matter.
func (s *session) setupText() string {
	a := s.machine.answer
	text := fmt.Sprintf("%s does not know this machine. Its MAC address is %s", s.set.Server, a.MAC)
	if a.UUID != "" {
		text += ", its UUID " + a.UUID
	}
	return text + fmt.Sprintf(".\nThere, `server clients promote %s` makes it known; then Ctrl-R shows its menu here.", a.MAC)
}

// announceItem is what somebody at the machine can do.
func announceItem() menu.Item {
	return menu.Item{ID: announceID, Title: "Make this machine known", Help: "Tells the server the name that you type, for whoever decides there."}
}

// announce asks for the name of this machine and tells it to the server. It
// returns what the menu is to say.
func (s *session) announce(ctx context.Context) string {
	const id = "name"
	f := form.New(form.Options{
		Title:  "InetBoot: make this machine known",
		Text:   "The name that this machine should have: small letters, digits and dashes. The server notes it, with the MAC address " + s.machine.answer.MAC + "; somebody there has to agree.",
		Fields: []form.Field{{ID: id, Label: "Name", Max: clientsettings.MaxName, Help: "Such as pc7; empty: somebody else names it."}},
		Submit: "Tell the server",
	})
	ok := fill(ctx, s.con, f, func() (string, error) {
		if clientsettings.CheckName(name(f.Value(id))) != nil {
			return id, errors.New("want small letters, digits and dashes")
		}
		return "", nil
	})
	s.con.Scroll()
	if !ok {
		return s.ready()
	}
	if err := s.sendAnnouncement(ctx, name(f.Value(id))); err != nil {
		text := explain(part("announcement", err))
		s.say("%s", text)
		return text
	}
	text := "this machine is announced to " + s.set.Server
	if n := name(f.Value(id)); n != "" {
		text += " as " + n
	}
	s.say("%s", text)
	return text + "; once it is known there, Ctrl-R shows its menu"
}

func name(typed string) string { return strings.ToLower(strings.TrimSpace(typed)) }

func (s *session) sendAnnouncement(ctx context.Context, name string) error {
	if s.store.client == nil {
		return errors.New("there is no network")
	}
	ctx, cancel := context.WithTimeout(ctx, announcePatience)
	defer cancel()
	data, err := json.Marshal(&clientsettings.Announcement{MAC: s.machine.answer.MAC, UUID: s.machine.answer.UUID, Name: name})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.set.Server, "/")+"/"+clientsettings.UnknownPath, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "inetboot")
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.store.client.HTTP().Do(req)
	if err != nil {
		return errors.New(judged(err))
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusAccepted:
		return nil
	case http.StatusConflict:
		return errors.New("the server knows this machine by now: Ctrl-R shows its menu")
	}
	return fmt.Errorf("%w %s", errAnswer, resp.Status)
}
