// Package database opens the server's database: a file of SQLite, or a
// PostgreSQL that several servers share. Both are reached through database/sql
// with the same statements: placeholders are written as ? and go through
// [DB.Rebind]; of types, TEXT, BIGINT, DOUBLE PRECISION and BYTEA are
// understood by both.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"
)

// openTimeout is how long a database may take to answer at the start.
const openTimeout = 10 * time.Second

// maxConnections bounds what one server uses of a database.
const maxConnections = 8

// DB is an open database. All methods may be called at the same time.
type DB struct {
	*sql.DB
	postgres bool
	writer   sync.Mutex // SQLite has one writer; waiting here is fair, in its busy handler it is not
}

// Open opens the database that dsn names: a URL postgres://… or postgresql://…,
// else the path of a SQLite file, which is made if there is none, readable by
// its owner only. The caller closes it.
func Open(ctx context.Context, dsn string) (*DB, error) {
	postgres := strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
	db, name, err := open(dsn, postgres)
	if err != nil {
		return nil, err
	}
	d := &DB{DB: db, postgres: postgres}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		if postgres {
			err = fmt.Errorf("%w: check that PostgreSQL runs there and that the user, the password and the database of the URL exist", err)
		}
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", name, err), db.Close())
	}
	return d, nil
}

// open returns a pool of connections, none of which is open yet, and what to
// call the database in messages, which have no passwords.
func open(dsn string, postgres bool) (db *sql.DB, name string, err error) {
	if postgres {
		name = "PostgreSQL"
		if u, err := url.Parse(dsn); err == nil {
			name = u.Redacted()
		}
		// The driver's own message may quote the password.
		if db, err = sql.Open("pgx", dsn); err != nil {
			return nil, "", fmt.Errorf("open the database %s: the URL is not understood: want postgres://USER:PASSWORD@HOST:PORT/DATABASE", name)
		}
		db.SetMaxOpenConns(maxConnections)
		db.SetConnMaxIdleTime(5 * time.Minute)
		return db, name, nil
	}
	path, err := filepath.Abs(dsn)
	if err != nil || dsn == "" {
		return nil, "", errors.Join(fmt.Errorf("open the database %q: want a file, or a URL postgres://…", dsn), err)
	}
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("open the database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, "", fmt.Errorf("open the database %s: %w", path, err)
	}
	// FULL: a lease that a machine was told of has to survive a loss of power.
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, "", fmt.Errorf("open the database %s: %w", path, err)
	}
	db.SetMaxOpenConns(maxConnections)
	return db, path, nil
}

// Rebind writes the placeholders ? of a query as the database wants them. A
// question mark inside quotes is none.
func (d *DB) Rebind(query string) string {
	if !d.postgres {
		return query
	}
	var b strings.Builder
	n, quote := 0, byte(0)
	for i := range len(query) {
		c := query[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// Update runs f in a transaction that writes: all of it happens, or nothing if
// f returns an error. f must use the transaction only, or it waits for itself.
func (d *DB) Update(ctx context.Context, f func(*sql.Tx) error) error {
	if !d.postgres {
		d.writer.Lock()
		defer d.writer.Unlock()
	}
	tx, err := d.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	defer tx.Rollback() // does nothing after a Commit
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	return nil
}

// migrationLock is the key of the advisory lock that servers which start at
// the same time take on a shared PostgreSQL.
const migrationLock = 0x696e6574

// ErrNewer is wrapped when a newer program has changed the database.
var ErrNewer = errors.New("a newer version of this program has changed the database")

// Migrate brings the tables of the package called name to where all steps have
// run, each once and in order; each is one statement or several, separated by
// semicolons. Steps that have been released must not be changed, only followed
// by more.
func (d *DB) Migrate(ctx context.Context, name string, steps []string) error {
	err := d.Update(ctx, func(tx *sql.Tx) error {
		if d.postgres {
			if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", migrationLock); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, step BIGINT NOT NULL)"); err != nil {
			return err
		}
		var done int
		err := tx.QueryRowContext(ctx, d.Rebind("SELECT step FROM migrations WHERE name = ?"), name).Scan(&done)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if done > len(steps) {
			return fmt.Errorf("%w: its tables are at step %d, this program knows %d: start the newer program, or bring back the backup from before", ErrNewer, done, len(steps))
		}
		for i, step := range steps[done:] {
			if _, err := tx.ExecContext(ctx, step); err != nil {
				return fmt.Errorf("step %d: %w", done+i+1, err)
			}
		}
		if done == len(steps) {
			return nil
		}
		_, err = tx.ExecContext(ctx, d.Rebind("INSERT INTO migrations (name, step) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET step = excluded.step"), name, len(steps))
		return err
	})
	if err != nil {
		return fmt.Errorf("bring the tables of %s up to date: %w", name, err)
	}
	return nil
}
