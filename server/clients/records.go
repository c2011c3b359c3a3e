package clients

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/inetboot/inetboot/server/database"
)

func steps() []string {
	return []string{`
CREATE TABLE client_sections (kind TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, name));
CREATE TABLE client_seen (mac TEXT PRIMARY KEY, uuid TEXT NOT NULL, host TEXT NOT NULL, address TEXT NOT NULL, what TEXT NOT NULL, first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL);
CREATE INDEX client_seen_last ON client_seen (last_seen)`, `
ALTER TABLE client_seen ADD COLUMN wanted TEXT NOT NULL DEFAULT ''`}
}

// maxSeen bounds how many machines are recorded: whoever invents MAC addresses
// pushes the oldest ones out, and fills nothing.
const maxSeen = 10000

// maxText bounds what a machine says of itself, in the record.
const maxText = 100

func record(ctx context.Context, db *database.DB, tx *sql.Tx, s Sighting) error {
	address := ""
	if s.Address.IsValid() {
		address = s.Address.String()
	}
	_, err := tx.ExecContext(ctx, db.Rebind(`INSERT INTO client_seen (mac, uuid, host, address, what, wanted, first_seen, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (mac) DO UPDATE SET last_seen = excluded.last_seen,
		uuid = CASE WHEN excluded.uuid = '' THEN client_seen.uuid ELSE excluded.uuid END,
		host = CASE WHEN excluded.host = '' THEN client_seen.host ELSE excluded.host END,
		address = CASE WHEN excluded.address = '' THEN client_seen.address ELSE excluded.address END,
		what = CASE WHEN excluded.what = '' THEN client_seen.what ELSE excluded.what END,
		wanted = CASE WHEN excluded.wanted = '' THEN client_seen.wanted ELSE excluded.wanted END`),
		s.MAC, printable(s.UUID), printable(s.Host), address, printable(s.What), printable(s.Wanted), s.Time.Unix(), s.Time.Unix())
	if err != nil {
		return fmt.Errorf("record client %s: %w", s.MAC, err)
	}
	return nil
}

// trim removes the machines that were seen longest ago, but for keep.
func trim(ctx context.Context, db *database.DB, tx *sql.Tx, keep int) error {
	_, err := tx.ExecContext(ctx, db.Rebind("DELETE FROM client_seen WHERE mac IN (SELECT mac FROM client_seen ORDER BY last_seen DESC, mac LIMIT ? OFFSET ?)"), math.MaxInt32, keep)
	if err != nil {
		return fmt.Errorf("remove old records of clients: %w", err)
	}
	return nil
}

// printable bounds and cleans what a machine says, which people see on their
// terminals.
func printable(s string) string {
	out := make([]rune, 0, min(len(s), maxText))
	for _, r := range s {
		if len(out) == maxText {
			break
		}
		if r < ' ' || r == 0x7f || r == 0xfffd || (r >= 0x80 && r < 0xa0) {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}

// Record is a machine that has been seen.
type Record struct {
	MAC     string    `json:"mac"`
	UUID    string    `json:"uuid,omitempty"`
	Host    string    `json:"host,omitempty"`
	Address string    `json:"address,omitempty"`
	What    string    `json:"what,omitempty"`
	Wanted  string    `json:"wanted,omitempty"` // the name that somebody at the machine wants for it
	First   time.Time `json:"first_seen"`
	Last    time.Time `json:"last_seen"`
}

// Seen returns the machines that have been seen, the last one first.
func Seen(ctx context.Context, db *database.DB) ([]Record, error) {
	rows, err := db.QueryContext(ctx, "SELECT mac, uuid, host, address, what, wanted, first_seen, last_seen FROM client_seen ORDER BY last_seen DESC, mac")
	if err != nil {
		return nil, fmt.Errorf("read the records of clients: %w", err)
	}
	defer rows.Close()
	var list []Record
	for rows.Next() {
		var r Record
		var first, last int64
		if err := rows.Scan(&r.MAC, &r.UUID, &r.Host, &r.Address, &r.What, &r.Wanted, &first, &last); err != nil {
			return nil, fmt.Errorf("read the records of clients: %w", err)
		}
		r.First, r.Last = time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC()
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the records of clients: %w", err)
	}
	return list, nil
}

// Stored returns the sections in the database.
func Stored(ctx context.Context, db *database.DB) ([]Section, error) {
	rows, err := db.QueryContext(ctx, "SELECT kind, name, body FROM client_sections ORDER BY kind, name")
	if err != nil {
		return nil, fmt.Errorf("read the clients' settings: %w", err)
	}
	defer rows.Close()
	var list []Section
	for rows.Next() {
		var s Section
		var body string
		if err := rows.Scan(&s.Kind, &s.Name, &body); err != nil {
			return nil, fmt.Errorf("read the clients' settings: %w", err)
		}
		if err := json.Unmarshal([]byte(body), &s.Values); err != nil {
			return nil, fmt.Errorf("read the settings of %s in the database: %w", s.Header(), err)
		}
		s.File = "database"
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the clients' settings: %w", err)
	}
	return list, nil
}

// Put stores sections in the database, each in place of one of the same name.
// Nothing is stored unless all of them, with the rest of the database and the
// sections of a file, make a whole.
func Put(ctx context.Context, db *database.DB, file []Section, sections ...Section) error {
	return change(ctx, db, file, func(tx *sql.Tx, stored []Section) ([]Section, error) {
		for _, s := range sections {
			body, err := json.Marshal(s.Values)
			if err != nil {
				return nil, err
			}
			if _, err := tx.ExecContext(ctx, db.Rebind("INSERT INTO client_sections (kind, name, body) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body"), s.Kind, s.Name, string(body)); err != nil {
				return nil, fmt.Errorf("store the settings of %s: %w", s.Header(), err)
			}
			stored = replace(stored, s)
		}
		return stored, nil
	})
}

func replace(list []Section, s Section) []Section {
	s.File = "database"
	for i := range list {
		if list[i].Kind == s.Kind && list[i].Name == s.Name {
			list[i] = s
			return list
		}
	}
	return append(list, s)
}

// ErrNotStored is wrapped when a section is not in the database.
var ErrNotStored = errors.New("it is not in the database")

// Remove removes a section from the database; see Put.
func Remove(ctx context.Context, db *database.DB, file []Section, kind Kind, name string) error {
	return change(ctx, db, file, func(tx *sql.Tx, stored []Section) ([]Section, error) {
		res, err := tx.ExecContext(ctx, db.Rebind("DELETE FROM client_sections WHERE kind = ? AND name = ?"), kind, name)
		if err != nil {
			return nil, fmt.Errorf("remove the settings of %s: %w", name, err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return nil, errors.Join(fmt.Errorf("remove the settings of %s: %w", name, ErrNotStored), err)
		}
		rest := stored[:0]
		for _, s := range stored {
			if s.Kind != kind || s.Name != name {
				rest = append(rest, s)
			}
		}
		return rest, nil
	})
}

func change(ctx context.Context, db *database.DB, file []Section, f func(*sql.Tx, []Section) ([]Section, error)) error {
	stored, err := Stored(ctx, db)
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *sql.Tx) error {
		after, err := f(tx, stored)
		if err != nil {
			return err
		}
		_, err = NewBook(file, after)
		return err
	})
}

// address parses an address that may be missing.
func address(s string) netip.Addr {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a
}
