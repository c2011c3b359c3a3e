package dhcp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/inetboot/inetboot/server/database"
)

// Leases is a Store in the server's database.
type Leases struct {
	db     *database.DB
	shared bool
}

var _ Store = (*Leases)(nil)

func steps() []string {
	return []string{
		// Times are in milliseconds since 1970.
		`CREATE TABLE leases (address TEXT PRIMARY KEY, mac TEXT NOT NULL, name TEXT NOT NULL, expires BIGINT NOT NULL, changed BIGINT NOT NULL);
		CREATE INDEX leases_changed ON leases (changed)`,
		`CREATE INDEX leases_name ON leases (lower(name))`,
	}
}

// OpenLeases makes the tables. shared says that other servers use the database,
// too.
func OpenLeases(ctx context.Context, db *database.DB, shared bool) (*Leases, error) {
	if err := db.Migrate(ctx, "dhcp", steps()); err != nil {
		return nil, err
	}
	return &Leases{db, shared}, nil
}

// Shared implements Store.
func (l *Leases) Shared() bool { return l.shared }

// Put implements Store: one statement for all leases.
func (l *Leases) Put(ctx context.Context, leases []Lease) ([]bool, error) {
	if len(leases) == 0 {
		return nil, nil
	}
	var q strings.Builder
	q.WriteString("INSERT INTO leases (address, mac, name, expires, changed) VALUES ")
	args := make([]any, 0, 5*len(leases))
	at := make(map[string]int, len(leases))
	for i, v := range leases {
		if i > 0 {
			q.WriteString(", ")
		}
		q.WriteString("(?, ?, ?, ?, ?)")
		a := v.Address.String()
		at[a] = i
		args = append(args, a, v.MAC, v.Name, v.Expires.UnixMilli(), v.Changed.UnixMilli())
	}
	q.WriteString(` ON CONFLICT (address) DO UPDATE SET mac = excluded.mac, name = excluded.name, expires = excluded.expires, changed = excluded.changed
		WHERE leases.mac = excluded.mac OR leases.expires <= excluded.changed RETURNING address`)
	ok := make([]bool, len(leases))
	err := l.db.Update(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, l.db.Rebind(q.String()), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var a string
			if err := rows.Scan(&a); err != nil {
				return err
			}
			ok[at[a]] = true
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("write leases: %w", err)
	}
	return ok, nil
}

// Load implements Store.
func (l *Leases) Load(ctx context.Context, since time.Time, f func(Lease)) error {
	from := int64(0)
	if !since.IsZero() {
		from = since.UnixMilli()
	}
	rows, err := l.db.QueryContext(ctx, l.db.Rebind("SELECT address, mac, name, expires, changed FROM leases WHERE changed >= ?"), from)
	if err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return fmt.Errorf("read leases: %w", err)
		}
		f(v)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read leases: %w", err)
	}
	return nil
}

// Get implements Store.
func (l *Leases) Get(ctx context.Context, a netip.Addr) (Lease, error) {
	v, err := scan(l.db.QueryRowContext(ctx, l.db.Rebind("SELECT address, mac, name, expires, changed FROM leases WHERE address = ?"), a.String()).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Lease{}, nil
	}
	if err != nil {
		return Lease{}, fmt.Errorf("read the lease of %v: %w", a, err)
	}
	return v, nil
}

// maxNamed bounds how many machines that call themselves the same are looked at.
const maxNamed = 16

// Named returns the leases that count now of machines with one of two names, in
// lower case: the newest first, at most 16.
func (l *Leases) Named(ctx context.Context, name, other string, now time.Time) ([]Lease, error) {
	rows, err := l.db.QueryContext(ctx, l.db.Rebind("SELECT address, mac, name, expires, changed FROM leases WHERE lower(name) IN (?, ?) AND expires > ? ORDER BY changed DESC LIMIT ?"),
		name, other, now.UnixMilli(), maxNamed)
	if err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", name, err)
	}
	defer rows.Close()
	var list []Lease
	for rows.Next() {
		v, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read the leases of %s: %w", name, err)
		}
		list = append(list, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the leases of %s: %w", name, err)
	}
	return list, nil
}

func scan(row func(...any) error) (Lease, error) {
	var v Lease
	var a string
	var expires, changed int64
	if err := row(&a, &v.MAC, &v.Name, &expires, &changed); err != nil {
		return Lease{}, err
	}
	addr, err := netip.ParseAddr(a)
	if err != nil || !addr.Is4() {
		return Lease{}, fmt.Errorf("%q is no address", a)
	}
	v.Address, v.Expires, v.Changed = addr, time.UnixMilli(expires), time.UnixMilli(changed)
	return v, nil
}
