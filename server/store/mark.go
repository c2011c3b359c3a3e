package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// A block is renamed into place before its bytes are known to be on the disk,
// because a sync for each of thousands would make pushes slow. If the machine
// loses power then, the file system may bring back the name without the bytes,
// and no push would ever heal it: the block is there. So a file, the mark, is
// on the disk for as long as there may be such blocks; a start that finds it
// compares the blocks that came after it with their names.

const (
	markName = "unsynced"
	// The clock may have been set while blocks came in.
	markSlack = time.Hour
)

type mark struct {
	file string
	mu   sync.RWMutex // read-locked while a block is renamed into place
	on   bool         // the file exists
	make sync.Mutex
}

// set makes sure that the mark is on the disk. The caller may put blocks into
// place until it calls done.
func (m *mark) set() (done func(), err error) {
	m.mu.RLock()
	m.make.Lock()
	defer m.make.Unlock()
	if !m.on {
		f, err := os.OpenFile(m.file, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err == nil {
			err = syncDir(filepath.Dir(m.file))
		}
		if err != nil {
			m.mu.RUnlock()
			return nil, err
		}
		m.on = true
	}
	return m.mu.RUnlock, nil
}

// clear calls sync, which has to force all blocks to the disk, and removes
// the mark.
func (m *mark) clear(sync func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := sync(); err != nil {
		return err
	}
	if !m.on {
		return nil
	}
	if err := os.Remove(m.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.on = false
	return nil
}

// recover removes the blocks that were not yet safe when the machine stopped
// and are not what their names promise.
func (d *Dir) recover() error {
	info, err := os.Stat(d.mark.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	since := info.ModTime().Add(-markSlack)
	err = fs.WalkDir(d.root.FS(), "blocks", func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.ModTime().Before(since) {
			return err
		}
		kind, sum, ok := storepath.Parse(p)
		if !ok {
			return nil
		}
		data, err := d.Read(p, maxStoredBlock)
		if err != nil && !errors.Is(err, ErrTooLarge) {
			return err
		}
		if err != nil || check(kind, p, sum, data) != nil {
			return d.root.Remove(p)
		}
		return nil
	})
	if err == nil {
		d.mark.on = true
		err = d.mark.clear(d.sync)
	}
	if err != nil {
		return fmt.Errorf("check the blocks that came before the last stop: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
