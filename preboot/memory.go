package main

import (
	"context"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/preboot/download"
)

// readMemory says what this machine has.
func readMemory() (download.Memory, error) {
	return download.ReadMemory("/proc/iomem", "/proc/meminfo")
}

// checkMemory returns an error that wraps download.ErrMemory if this machine
// has too little memory for an image, or if its publisher says so.
func checkMemory(img *catalog.Image) error {
	m, err := readMemory()
	if err != nil {
		return err
	}
	if err := m.Compare(img); err != nil {
		return err
	}
	return m.Check(img)
}

// confirmMemory asks before an image is started on a machine with less memory
// than its publisher says that it needs, which is an estimate. It returns an
// error if the image is not to be started, or cannot be.
func (s *session) confirmMemory(ctx context.Context, p *plan) error {
	m, err := readMemory()
	if err != nil {
		return err
	}
	if err := m.Check(p.img, p.more...); err != nil {
		return err
	}
	short := m.Compare(p.img)
	if short == nil {
		return nil
	}
	return s.allTheSame(ctx, "too little memory", short.Error()+". It may not start, or fail later.", short)
}
