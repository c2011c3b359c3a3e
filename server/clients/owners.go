package clients

import (
	"path"
	"strings"
	"sync"
	"time"
)

// Bounds of what is remembered of UUIDs.
const (
	maxOwners = 4096
	ownerTime = 15 * time.Minute // a boot is over by then
)

// owners remembers which MAC address a UUID was last seen with: a program that
// says its UUID alone is then known by both.
type owners struct {
	mu sync.Mutex
	of map[string]owner
}

type owner struct {
	mac   string
	other time.Time // when it was last seen with another address: boards that all have the same UUID
	time  time.Time
}

func (o *owners) note(uuid, mac string, at time.Time) {
	if uuid == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.of[uuid]
	if !ok && len(o.of) >= maxOwners {
		for k := range o.of { // any one
			delete(o.of, k)
			break
		}
	}
	now := owner{mac: mac, other: was.other, time: at}
	if ok && was.mac != mac {
		now.other = was.time
	}
	if o.of == nil {
		o.of = make(map[string]owner)
	}
	o.of[uuid] = now
}

// find returns the address, "" if it is not known, or not sure.
func (o *owners) find(uuid string, at time.Time) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.of[uuid]
	if at.Sub(w.time) > ownerTime || at.Sub(w.other) < ownerTime {
		return ""
	}
	return w.mac
}

// ByPxelinux returns who a machine is by the UUID that pxelinux says, if there
// is a section, or a pattern, for that UUID; with its MAC address, if it was seen
// with one. Pxelinux writes the bytes of DHCP's option 97 one after the other; in
// some firmware these have SMBIOS's order, in which the first three fields are
// little-endian, in some that of the text.
func (c *Clients) ByPxelinux(uuid string) (Identity, bool) {
	uuid = strings.ToLower(uuid)
	if !IsUUID(uuid) {
		return Identity{}, false
	}
	book := c.book.Load()
	for _, u := range []string{swapped(uuid), uuid} {
		if book.hasUUID(u) {
			// DHCP reads the option in SMBIOS's order, whatever the firmware does.
			return Identity{UUID: u, MAC: c.owners.find(swapped(uuid), time.Now())}, true
		}
	}
	return Identity{}, false
}

// Met remembers which MAC address has a UUID. It never waits.
func (c *Clients) Met(id Identity) { c.owners.note(id.UUID, id.MAC, time.Now()) }

// hasUUID tells whether a section or a pattern is for a UUID. What is not for
// UUIDs alone, as *, does not count.
func (b *Book) hasUUID(uuid string) bool {
	if len(b.sections[ref{Client, uuid}]) > 0 {
		return true
	}
	for _, g := range b.globs {
		if ok, err := path.Match(g, uuid); err == nil && ok && strings.Contains(g, "-") {
			return true
		}
	}
	return false
}

// swapped returns a UUID with the bytes of its first three fields in the other
// order.
func swapped(u string) string {
	return u[6:8] + u[4:6] + u[2:4] + u[0:2] + "-" + u[11:13] + u[9:11] + "-" + u[16:18] + u[14:16] + u[18:]
}
