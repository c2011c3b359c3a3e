package nbd

// The protocol, by doc/proto.md of https://github.com/NetworkBlockDevice/nbd.
// All numbers are big-endian.
const (
	magicServer   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption   = 0x49484156454f5054 // "IHAVEOPT"
	magicReply    = 0x3e889045565a9
	magicRequest  = 0x25609513
	magicSimple   = 0x67446698
	magicChunk    = 0x668e33ef
	flagFixed     = 1 << 0 // of both handshakes
	flagNoZeroes  = 1 << 1
	maxOptionData = 8 << 10 // bytes that are taken; an export's name has 4096 at most
	maxName       = 4096

	optExportName = 1
	optAbort      = 2
	optList       = 3
	optInfo       = 6
	optGo         = 7
	optStructured = 8

	repAck        = 1
	repServer     = 2
	repInfo       = 3
	repErr        = 1 << 31
	repErrUnsup   = repErr + 1
	repErrPolicy  = repErr + 2
	repErrInvalid = repErr + 3
	repErrUnknown = repErr + 6
	repErrTooBig  = repErr + 9

	infoExport    = 0
	infoName      = 1
	infoBlockSize = 3

	sendFlags     = 1 << 0 // of an export
	sendReadOnly  = 1 << 1
	sendFlush     = 1 << 2
	sendFUA       = 1 << 3
	sendTrim      = 1 << 5
	sendDF        = 1 << 7
	sendMultiConn = 1 << 8

	cmdRead  = 0
	cmdWrite = 1
	cmdDisc  = 2
	cmdFlush = 3
	cmdTrim  = 4

	cmdFlagFUA = 1 << 0
	cmdFlagDF  = 1 << 2

	chunkDone  = 1 << 0
	chunkData  = 1
	chunkHole  = 2
	chunkError = 1<<15 + 1

	errPerm     = 1
	errIO       = 5
	errInvalid  = 22
	errNoSpace  = 28
	errOverflow = 75
)

// maxRequest is the largest read or write: what clients may assume unless
// they are told.
const maxRequest = 32 << 20

// request is a command of the transmission phase.
type request struct {
	flags, kind uint16
	cookie      uint64
	offset      uint64
	length      uint32
}
