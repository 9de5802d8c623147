#include "extension/pg/page_delta.h"

extern "C" {
#include "access/generic_xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
}

namespace pg {
namespace {

// What a change begins with, in the record as in generic_xlog.c.
struct FragmentHeader {
    OffsetNumber offset;
    OffsetNumber length;
};

// As the redo does it, so that a page here and its copy on a standby cannot differ.
void apply(Page page, const char *bytes, uint32 size) {
    for (const char *at = bytes; at < bytes + size;) {
        FragmentHeader header;
        memcpy(&header, at, sizeof(header));
        at += sizeof(header);
        memcpy(page + header.offset, at, header.length);
        at += header.length;
    }
}

} // namespace

void PageDelta::set(const void *place, const void *bytes, uint32 size) {
    Page page = BufferGetPage(buffer_);
    auto offset = static_cast<size_t>(static_cast<const char *>(place) - page);
    if (offset < SizeOfPageHeaderData ||
        offset + size > reinterpret_cast<PageHeader>(page)->pd_lower)
        elog(ERROR, "a change outside the contents of a page");
    if (size_ + sizeof(FragmentHeader) + size > sizeof(bytes_))
        elog(ERROR, "too many changes to a page");
    FragmentHeader header = {static_cast<OffsetNumber>(offset), static_cast<OffsetNumber>(size)};
    memcpy(bytes_ + size_, &header, sizeof(header));
    memcpy(bytes_ + size_ + sizeof(header), bytes, size);
    size_ += sizeof(header) + size;
}

void PageDelta::finish() {
    Page page = BufferGetPage(buffer_);
    bool logged = RelationNeedsWAL(relation_);
    if (logged)
        XLogBeginInsert();
    START_CRIT_SECTION();
    apply(page, bytes_, size_);
    MarkBufferDirty(buffer_);
    if (logged) {
        XLogRegisterBuffer(0, buffer_, REGBUF_STANDARD);
        XLogRegisterBufData(0, bytes_, size_);
        XLogRecPtr end = XLogInsert(RM_GENERIC_ID, 0);
        PageSetLSN(page, end); // a macro that uses its argument twice
    }
    END_CRIT_SECTION();
}

} // namespace pg
