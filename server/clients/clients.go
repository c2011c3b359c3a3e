// Package clients knows the machines of a LAN: who is known, and what holds for
// each machine, from a file that people write and from the database.
//
// A lookup is answered from memory, so that neither a slow database nor a file
// with an error in it keeps a machine from booting: what was known last holds.
package clients

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/server/database"
)

// Identity is what a machine says of itself. What is not known is empty.
type Identity struct {
	MAC  string // six bytes with colons, lower case
	UUID string // of SMBIOS, as 4c4c4544-0043-…, lower case
	Host string // its host name
}

// Policy says what machines get that are not known.
type Policy string

// The policies.
const (
	BootUnknown   Policy = "yes"   // what known machines get
	SetupUnknown  Policy = "setup" // the menu's entry "setup" only
	RefuseUnknown Policy = "no"    // no answer
)

// ParsePolicy reads a policy.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case BootUnknown, SetupUnknown, RefuseUnknown:
		return p, nil
	}
	return "", fmt.Errorf("machines that are not known: %q: want yes, setup or no", s)
}

// SetupEntry is the entry of the menu for machines that are not known.
const SetupEntry = "setup"

// Options are what a Clients is made of.
type Options struct {
	DB      *database.DB // nil: the file only, and nothing is recorded
	File    string       // with sections; "" is none. It need not exist
	Unknown Policy       // "" is BootUnknown
	Log     *slog.Logger
}

// Clients is all that is known of machines. Its methods may be called at the
// same time.
type Clients struct {
	o    Options
	book atomic.Pointer[Book]

	reading sync.Mutex // one Reload at a time
	file    []Section  // what the file said when it could be read last

	seen   chan Sighting // waiting to be recorded
	owners owners
	keep   int // how many machines stay recorded
}

// seenWaiting bounds how many sightings wait for the database; more are lost.
const seenWaiting = 1024

// Open reads what is known. A file with errors, or a database that does not
// answer, is an error here only; later what was known before is kept.
func Open(ctx context.Context, o Options) (*Clients, error) {
	if o.Unknown == "" {
		o.Unknown = BootUnknown
	}
	c := &Clients{o: o, seen: make(chan Sighting, seenWaiting), keep: maxSeen}
	if o.DB != nil {
		if err := o.DB.Migrate(ctx, "clients", steps()); err != nil {
			return nil, err
		}
	}
	if err := c.Reload(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads file and database again. If one of them cannot be read, what
// it said before holds on.
func (c *Clients) Reload(ctx context.Context) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	var errs []error
	sections, err := readFile(c.o.File)
	if err == nil {
		c.file = sections
	} else {
		errs = append(errs, err)
	}
	var stored []Section
	if c.o.DB != nil {
		if stored, err = Stored(ctx, c.o.DB); err != nil {
			errs = append(errs, err)
			if old := c.book.Load(); old != nil {
				stored = old.stored
			}
		}
	}
	book, err := NewBook(c.file, stored)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	book.policy = c.o.Unknown
	c.book.Store(book)
	return errors.Join(errs...)
}

func readFile(path string) ([]Section, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the clients' settings: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the clients' settings: %w", err)
	}
	return Parse(path, data)
}

// Lookup returns what holds for a machine. It never waits.
func (c *Clients) Lookup(_ context.Context, id Identity) (Settings, error) {
	return c.book.Load().Lookup(id), nil
}

// Book returns all that is known now.
func (c *Clients) Book() *Book { return c.book.Load() }

// Sighting is a machine that asked for something.
type Sighting struct {
	Identity
	Address netip.Addr // that it has or gets; may be invalid
	What    string     // what it is, such as "UEFI x64"
	Wanted  string     // the name that somebody at the machine wants for it; "": nobody has said
	Time    time.Time
}

// Seen records a machine. It never waits: if the database is too slow,
// sightings are lost.
func (c *Clients) Seen(s Sighting) {
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	if s.MAC == "" {
		return
	}
	c.Met(s.Identity)
	if c.o.DB == nil {
		return
	}
	select {
	case c.seen <- s:
	default:
	}
}

// reloadPeriod is how often file and database are read again: another server,
// or "server clients", may have changed them.
const reloadPeriod = 2 * time.Second

// Run records sightings and reads changes until ctx ends.
func (c *Clients) Run(ctx context.Context) {
	tick := time.NewTicker(reloadPeriod)
	defer tick.Stop()
	said := ""
	seen := c.seen
	var rested <-chan time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case s := <-seen:
			err = c.record(ctx, s)
			seen, rested = nil, time.After(recordRest)
		case <-rested:
			seen = c.seen
		case <-tick.C:
			rctx, cancel := context.WithTimeout(ctx, 10*reloadPeriod)
			err = c.Reload(rctx)
			cancel()
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			c.o.Log.Error("what is known of the clients could not be brought up to date; what was known before holds", "error", err)
			said = err.Error()
		} else if err == nil {
			said = ""
		}
	}
}

// recordBatch is how many sightings one transaction writes at most.
const recordBatch = 256

// recordRest is how long sightings are gathered after some were written: a
// lease that is written meanwhile, for which a machine waits, goes before them.
const recordRest = 250 * time.Millisecond

// record writes sightings that wait, in one transaction.
func (c *Clients) record(ctx context.Context, first Sighting) error {
	list := []Sighting{first}
	for len(list) < recordBatch {
		select {
		case s := <-c.seen:
			list = append(list, s)
			continue
		default:
		}
		break
	}
	ctx, cancel := context.WithTimeout(ctx, 10*reloadPeriod)
	defer cancel()
	return c.o.DB.Update(ctx, func(tx *sql.Tx) error {
		for _, s := range list {
			if err := record(ctx, c.o.DB, tx, s); err != nil {
				return err
			}
		}
		return trim(ctx, c.o.DB, tx, c.keep)
	})
}
